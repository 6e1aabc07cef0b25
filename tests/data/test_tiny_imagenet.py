"""Tiny-ImageNet from an archive of the published format, which this file writes."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lookbehind.data import DATASETS, CropAndFlip, DataError, load
from lookbehind.data.tiny_imagenet import ARCHIVE
from lookbehind.lifelong import split
from tests.data.formats import pictures

WNIDS = ["n02124075", "n04067472", "n04540053", "n04099969"]  # not sorted, as published
Members = dict[str, bytes]


def jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def photograph(seed: int, grey: bool = False) -> np.ndarray:
    """Smooth, so that JPEG keeps it."""
    small = Image.fromarray(pictures(seed, 4, 4, 3)[..., 0] if grey else pictures(seed, 4, 4, 3))
    return np.asarray(small.resize((64, 64), Image.Resampling.BICUBIC))


def members(n: int = 11, tested: int = 8) -> Members:
    """n training images of each class and some validation images; the third of each class is grey."""
    root = "tiny-imagenet-200/"
    found = {root + "wnids.txt": "\n".join(WNIDS).encode(), root + "words.txt": b"n00001740\tentity\n"}
    for c, wnid in enumerate(WNIDS):
        found[f"{root}train/{wnid}/images/"] = b""
        found[f"{root}train/{wnid}/{wnid}_boxes.txt"] = b""
        for i in range(n):
            found[f"{root}train/{wnid}/images/{wnid}_{i}.JPEG"] = jpeg(photograph(100 * c + i, grey=i == 2))
    lines = [f"val_{i}.JPEG\t{WNIDS[i % 4]}\t0\t32\t44\t62\n" for i in range(tested)]
    found[root + "val/val_annotations.txt"] = "".join(lines).encode()
    for i in range(tested):
        found[f"{root}val/images/val_{i}.JPEG"] = jpeg(photograph(1000 + i))
    found[root + "test/images/test_0.JPEG"] = jpeg(photograph(5000))
    return found


def write(root: Path, content: Members) -> Path:
    path = root / "tiny-imagenet" / ARCHIVE.name
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in reversed(content.items()):  # no order is promised
            archive.writestr(name, value)
    return path


@pytest.fixture(autouse=True)
def without_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, "tiny-imagenet", replace(DATASETS["tiny-imagenet"], files=()))


def test_images_and_labels(tmp_path: Path) -> None:
    content = members()
    write(tmp_path, content)
    data = load("tiny-imagenet", tmp_path, validation=0)
    assert data.classes == tuple(WNIDS)
    assert (data.channels, data.size, data.augmentation) == (3, 64, CropAndFlip(padding=4))
    assert (len(data.train), len(data.test)) == (44, 8)
    assert data.test.labels.tolist() == [0, 1, 2, 3] * 2

    def decoded(name: str) -> np.ndarray:
        image = Image.open(io.BytesIO(content[f"tiny-imagenet-200/{name}"])).convert("RGB")
        return np.asarray(image).transpose(2, 0, 1)

    for i in range(8):
        assert np.array_equal(data.test.pixels.images[i].numpy(), decoded(f"val/images/val_{i}.JPEG"))
    source = DATASETS["tiny-imagenet"].read(tmp_path / "tiny-imagenet", 64)
    assert source.labels.tolist() == sorted([0, 1, 2, 3] * 11)
    for i in (0, 2, 9, 10, 43):  # the tenth follows the ninth, not the first
        name = f"train/{WNIDS[i // 11]}/images/{WNIDS[i // 11]}_{i % 11}.JPEG"
        assert np.array_equal(source.pixels.images[i].numpy(), decoded(name))
    grey = source.pixels.images[2]
    assert torch.equal(grey[0], grey[1])
    images, _ = next(iter(data.test.minibatches(8)))
    expected = (decoded("val/images/val_0.JPEG")[0] / 255 - 0.485) / 0.229
    assert images[0, 0].numpy() == pytest.approx(expected, abs=1e-5)


def test_as_a_stream(tmp_path: Path) -> None:
    write(tmp_path, members())
    stream = split(load("tiny-imagenet", tmp_path, validation=8, stratified=True), tasks=2, ways=2)
    assert [[len(t.train), len(t.validation), len(t.test)] for t in stream.tasks] == [[18, 4, 4]] * 2


def lacking(name: str) -> Callable[[Members], Members]:
    return lambda content: {key: value for key, value in content.items() if not key.endswith(name)}


def changed(name: str, value: bytes) -> Callable[[Members], Members]:
    return lambda content: content | {f"tiny-imagenet-200/{name}": value}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lacking("wnids.txt"), "it lacks tiny-imagenet-200/wnids.txt"),
        (lacking("val_annotations.txt"), "it lacks tiny-imagenet-200/val/val_annotations.txt"),
        (lacking("val_3.JPEG"), "it lacks tiny-imagenet-200/val/images/val_3.JPEG"),
        (changed("wnids.txt", b"n1\nn1\n"), "wnids.txt has no classes, or one twice"),
        (changed("wnids.txt", b"n02124075\nn9\n"), "it has no images in tiny-imagenet-200/train/n9/images/"),
        (changed("wnids.txt", b"\xff\xfe"), "can't decode byte 0xff"),
        (changed("val/val_annotations.txt", b"val_0.JPEG\tn9\t0\n"), "is of class 'n9', which wnids.txt does not list"),
        (changed("val/val_annotations.txt", b"val_0.JPEG"), "is of class '', which"),
        (changed("val/val_annotations.txt", b""), "it lists no validation images"),
        (changed("val/images/val_0.JPEG", b"no image"), "val/images/val_0.JPEG cannot be read as an image"),
        (changed("val/images/val_0.JPEG", jpeg(pictures(0, 8, 9, 3))), "it has 9×8 pixels"),
        (changed("val/images/val_0.JPEG", bytes(1 << 21)), "val_0.JPEG has 2,097,152 bytes"),
    ],
)
def test_another_archive(tmp_path: Path, change: Callable[[Members], Members], reason: str) -> None:
    write(tmp_path, change(members(n=3)))
    with pytest.raises(DataError, match=f"is missing, damaged, or not the published archive .*{re.escape(reason)}"):
        load("tiny-imagenet", tmp_path)


def test_a_damaged_or_missing_archive(tmp_path: Path) -> None:
    path = write(tmp_path, members(n=3))
    whole = path.read_bytes()
    path.write_bytes(whole[:-200])
    with pytest.raises(DataError, match="damaged"):
        load("tiny-imagenet", tmp_path)
    middle = whole.index(b"n02124075_0.JPEG") + 200
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(DataError, match="Bad CRC-32"):
        load("tiny-imagenet", tmp_path)
    path.unlink()
    with pytest.raises(DataError, match="is missing, damaged"):
        load("tiny-imagenet", tmp_path)


def test_the_published_file_is_known_by_its_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, "tiny-imagenet", replace(DATASETS["tiny-imagenet"], files=(ARCHIVE,)))
    write(tmp_path, members(n=3))
    with pytest.raises(DataError, match=r"248,100,043 bytes and 6198c8ae\w+ are expected"):
        load("tiny-imagenet", tmp_path, download=False)
