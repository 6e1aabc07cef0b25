"""Data sets by name, from files on disk to minibatches."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lookbehind.data import DATASETS, Data, DataError, Dataset, Normalisation, default_root, fetch, load, load_digits
from lookbehind.data.download import File
from lookbehind.data.memory import InMemory
from lookbehind.data.published import Published
from tests.data import formats


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small CIFARs and Fashion-MNIST in the published formats, with their own checksums in the registry."""
    formats.write_archive(tmp_path / "cifar10" / "cifar-10-python.tar.gz", formats.cifar10())
    formats.write_archive(tmp_path / "cifar100" / "cifar-100-python.tar.gz", formats.cifar100(n=40))
    formats.fashion_mnist(tmp_path / "fashion-mnist")
    for name in ("cifar10", "cifar100", "fashion-mnist"):
        entry = DATASETS[name]
        files = tuple(
            replace(file, sha256=hashlib.sha256((tmp_path / name / file.name).read_bytes()).hexdigest(), url="http://[")
            for file in entry.files
        )
        monkeypatch.setitem(DATASETS, name, replace(entry, files=files))
    return tmp_path


SHAPES = {"cifar10": (100, 20, 10), "cifar100": (40, 40, 100), "fashion-mnist": (50, 20, 10)}


@pytest.mark.parametrize("name", SHAPES)
def test_from_files_to_minibatches(root: Path, name: str) -> None:
    n, tested, classes = SHAPES[name]
    data = load(name, root)
    assert (len(data.train), len(data.validation), len(data.test)) == (n - n // 10, n // 10, tested)
    assert len(data.classes) == classes
    images, labels = next(iter(data.train.shuffled(8)))
    assert images.shape == (8, data.channels, data.size, data.size)
    assert labels.shape == (8,)
    assert data.augmentation is not None
    assert data.augmentation.flip


@pytest.mark.parametrize("name", [*SHAPES, "digits"])
def test_the_record_gives_the_same_data_again(root: Path, name: str) -> None:
    data = load(name, root, seed=3, train=30, validation=5, test=12, stratified=True, noise=0.5)
    record = json.loads(json.dumps(data.to_dict()))
    assert record["selection"] == data.selection.to_dict()
    assert (record["classes"], record["channels"]) == (len(data.classes), data.channels)
    again = load(root=root, **record["selection"])
    assert (len(again.train), len(again.validation), len(again.test)) == (30, 5, 12)
    for part in ("train", "validation", "test"):
        for a, b in zip(getattr(data, part).tensors(), getattr(again, part).tensors(), strict=True):
            assert torch.equal(a, b)
    assert again.to_dict() == data.to_dict()


def test_noise_is_in_the_training_labels_alone(root: Path) -> None:
    clean, noisy = load("cifar10", root, seed=1), load("cifar10", root, seed=1, noise=0.5)
    assert torch.equal(clean.train.pixels.images, noisy.train.pixels.images)
    assert torch.equal(noisy.clean_labels, clean.train.labels)
    assert torch.equal(clean.clean_labels, clean.train.labels)
    assert torch.equal(clean.validation.labels, noisy.validation.labels)
    assert torch.equal(clean.test.labels, noisy.test.labels)
    assert 20 < (noisy.train.labels != noisy.clean_labels).sum() <= 45


def test_images_keep_their_labels(root: Path) -> None:
    data = load("cifar10", root, stratified=True, validation=30)
    official = {formats.pictures(i, 20, 3072)[j].tobytes(): (7 * j + i) % 10 for i in range(6) for j in range(20)}
    for part in (data.train, data.validation, data.test):
        for image, label in zip(part.pixels.images, part.labels.tolist(), strict=True):
            assert official[image.numpy().tobytes()] == label


def test_test_images_are_never_trained_on(root: Path) -> None:
    data = load("cifar10", root, validation=0)
    trained = {image.numpy().tobytes() for image in data.train.pixels.images}
    assert len(trained) == 100
    assert not trained & {image.numpy().tobytes() for image in data.test.pixels.images}


@pytest.mark.parametrize(("seed", "train", "noise"), [(0, 1000, 0.4), (7, 17, 1.0)])
def test_digits_are_those_of_load_digits(seed: int, train: int, noise: float) -> None:
    a, b = load("digits", seed=seed, train=train, noise=noise), load_digits(seed, train=train, noise=noise)
    for part in ("train", "validation", "test"):
        images, labels = getattr(a, part).tensors()
        assert torch.equal(images, getattr(b, f"{part}_images"))
        assert torch.equal(labels, getattr(b, f"{part}_labels"))
    assert torch.equal(a.clean_labels, b.clean_labels)


def test_digits_keep_their_numbers() -> None:
    # Written down when `lookbehind compare` was first published: its results rest on this split.
    digits = load_digits(seed=0, noise=0.4)
    everything = b"".join(
        t.numpy().tobytes()
        for t in (digits.train_labels, digits.clean_labels, digits.validation_labels, digits.test_labels)
    )
    assert hashlib.sha256(everything).hexdigest()[:16] == "c13b68d3e27abc9b"
    assert digits.train_images.double().abs().sum().item() == pytest.approx(57063.5326160267, rel=1e-9)


def test_to_a_device(root: Path) -> None:
    data = load("cifar10", root).to("meta")
    assert isinstance(data, Data)
    for part in (data.train, data.validation, data.test):
        assert part.pixels.images.dtype == torch.uint8
        assert part.pixels.images.device.type == part.labels.device.type == "meta"
    assert data.clean_labels.device.type == "meta"


def test_a_damaged_archive_is_told_before_it_is_opened(root: Path) -> None:
    path = root / "cifar10" / "cifar-10-python.tar.gz"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DataError, match="it is damaged or another file"):
        load("cifar10", root)


def test_fetch(root: Path) -> None:
    assert fetch("cifar100", root) == root / "cifar100"
    (root / "cifar100" / "cifar-100-python.tar.gz").unlink()
    with pytest.raises(
        DataError, match=r"CIFAR-100 is missing from .*put there cifar-100-python.tar.gz \(169,001,437 bytes"
    ):
        fetch("cifar100", root, download=False)


def test_the_registry_is_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def read(folder: Path, size: int) -> Published:
        images = torch.zeros(6, 1, size, size, dtype=torch.uint8)
        return Published(
            ("a", "b"), 1, InMemory(images, None), torch.arange(6) % 2, None, Normalisation((0.0,), (1.0,))
        )

    monkeypatch.setitem(DATASETS, "mine", Dataset("Mine", read, sizes=(5, 3), folder="mine"))
    data = load("mine", tmp_path, size=3)
    assert data.size == 3
    assert [len(p) for p in (data.train, data.validation, data.test)] == [3, 1, 2]
    with pytest.raises(ValueError, match="size is 4; allowed for Mine is 5 or 3"):
        load("mine", tmp_path, size=4)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"dataset": "mnist"}, "dataset is 'mnist'; allowed are digits, fashion-mnist, cifar10, cifar100, imagenet"),
        ({"dataset": "digits", "noise": 1.1}, "noise is 1.1; a fraction"),
        ({"dataset": "digits", "noise": float("nan")}, "noise is nan; a fraction"),
        ({"dataset": "digits", "size": 14}, "size is 14; allowed for The digits is 8"),
        ({"dataset": "digits", "train": 1796}, "train is 1796; a whole number from 1 to 1795"),
    ],
)
def test_mistakes(tmp_path: Path, arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        load(root=tmp_path, **arguments)


def test_the_default_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("LOOKBEHIND_DATA", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_root() == tmp_path / ".cache" / "lookbehind"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_root() == tmp_path / "cache" / "lookbehind"
    monkeypatch.setattr("sys.platform", "darwin")
    assert default_root() == tmp_path / "Library" / "Caches" / "lookbehind"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert default_root() == tmp_path / "local" / "lookbehind"
    monkeypatch.setenv("LOOKBEHIND_DATA", "~/data")
    assert default_root() == tmp_path / "data"


def test_the_default_root_of_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    for name in ("HOME", "LOOKBEHIND_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert default_root() == Path(tempfile.gettempdir()) / "lookbehind"
    load("digits")  # needs no folder


def test_the_default_root_is_used(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKBEHIND_DATA", str(root))
    assert len(load("cifar10").test) == 20


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion-mnist"])
def test_the_registry_states_whole_checksums(name: str) -> None:
    for file in DATASETS[name].files:
        assert isinstance(file, File)
        assert len(bytes.fromhex(file.sha256)) == 32
        assert file.url.endswith(file.name)
