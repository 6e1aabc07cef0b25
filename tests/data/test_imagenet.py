"""ImageNet from its folders: real JPEG files, in this process and in workers."""

from __future__ import annotations

import os
import pickle
import re
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from lookbehind.data import DataError, files, imagenet, load
from lookbehind.data.files import ImageFiles, decode
from lookbehind.data.views import ResizedCrop
from tests.data.test_views import close, photograph, pillow, tensor

WNIDS = ("n01440764", "n02102040", "n03000684")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes with 4, 5 and 6 training images and 2 validation images each, of different sizes and kinds."""
    root = tmp_path_factory.mktemp("root")
    number = 0
    for part, sizes in [("train", (4, 5, 6)), ("val", (2, 2, 2))]:
        for wnid, size in zip(WNIDS, sizes, strict=True):
            folder = root / "imagenet" / part / wnid
            folder.mkdir(parents=True)
            for i in range(size):
                number += 1
                image = pillow(photograph(230 + 7 * number, 300 - 3 * number, seed=number))
                image = [image, image.convert("L"), image.convert("CMYK")][number % 3 if part == "train" else 0]
                image.save(folder / f"{wnid}_{i}.JPEG", "JPEG", quality=95)
    return root


def test_parts_and_labels(root: Path) -> None:
    data = load("imagenet", root, validation=3, stratified=True, seed=1)
    assert data.classes == WNIDS
    assert (len(data.train), len(data.validation), len(data.test)) == (12, 3, 6)
    assert data.validation.labels.sort().values.tolist() == [0, 1, 2]
    assert data.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert (data.channels, data.size) == (3, 224)
    for part in (data.train, data.validation, data.test):
        for i, label in enumerate(part.labels.tolist()):
            assert part.pixels.path(i).parent.name == WNIDS[label]
    held_out = {data.validation.pixels.path(i) for i in range(3)}
    assert len(held_out | {data.train.pixels.path(i) for i in range(12)}) == 15


@pytest.mark.parametrize(
    ("name", "resize", "resample", "mean", "std"),
    [
        ("imagenet", 256, Image.Resampling.BILINEAR, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("imagenet-vit", 248, Image.Resampling.BICUBIC, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ],
)
def test_evaluation_against_pillow_alone(
    root: Path, name: str, resize: int, resample: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    data = load(name, root)
    images, labels = next(iter(data.test.minibatches(4, workers=0)))
    assert images.shape == (4, 3, 224, 224)
    assert images.dtype == torch.float32
    assert labels.tolist() == [0, 0, 1, 1]
    for i in range(4):
        with Image.open(data.test.pixels.path(i)) as file:
            image = file.convert("RGB")
        w, h = image.size
        image = image.resize((resize, int(resize * h / w)) if w < h else (int(resize * w / h), resize), resample)
        left, top = (round((length - 224) / 2) for length in image.size)
        pixels = tensor(image.crop((left, top, left + 224, top + 224))).float() / 255
        expected = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        assert (images[i] - expected).abs().max() < 2.01 / 255 / min(std)  # two levels of grey
        assert (images[i] - expected).abs().mean() < 0.01 / 255 / max(std)


def test_workers_change_nothing(root: Path) -> None:
    data = load("imagenet", root, validation=0)
    alone = list(data.train.shuffled(4, seed=2, workers=0))
    assert [len(labels) for _, labels in alone] == [4, 4, 4, 3]
    with_workers = list(data.train.shuffled(4, seed=2, workers=2))
    for a, b in zip(alone, with_workers, strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])


def test_training_views_are_drawn_anew_and_resumed(root: Path) -> None:
    data = load("imagenet", root, validation=0)
    batches = data.train.shuffled(15, workers=0)
    first, second = (images[labels.argsort(stable=True)] for _ in (0, 1) for images, labels in batches)
    assert not torch.equal(first, second)
    head = data.train.shuffled(4, workers=0)
    for images, _ in head:
        if head.position == 3:
            third = images
            break
    again = data.train.shuffled(4, workers=0)
    again.load_state_dict(head.state_dict() | {"position": 2})
    assert torch.equal(next(iter(again))[0], third)
    # An image's view does not depend on the minibatches it comes in.
    whole = torch.cat([images for images, _ in data.train.shuffled(15, workers=0)])
    parts = torch.cat([images for images, _ in data.train.shuffled(4, workers=0)])
    assert torch.equal(whole, parts)


def test_views_are_those_of_the_drawn_box(root: Path) -> None:
    pixels = load("imagenet", root).train.pixels
    assert isinstance(pixels, ImageFiles)
    (shown,) = pixels.batches([torch.tensor([5])], seed=9, workers=0)
    image = decode(pixels.path(5))
    generator = torch.Generator().manual_seed(files.mixed_seed(9, 5))
    box = pixels.augmentation.draw(image.shape[1], image.shape[2], generator)
    cut = pillow(image).crop((box.left, box.top, box.left + box.width, box.top + box.height))
    expected = tensor(cut.resize((224, 224), Image.Resampling.BILINEAR))
    assert close(shown[0], expected.flip(2) if box.flip else expected)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P", "1"])
def test_images_of_other_kinds(tmp_path: Path, mode: str) -> None:
    image = pillow(photograph(20, 30)).convert(mode)
    path = tmp_path / "image.png"
    image.save(path, "JPEG" if mode == "CMYK" else "PNG")
    with Image.open(path) as file:
        expected = tensor(file.convert("RGB"))
    assert torch.equal(decode(path), expected)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("damage", ["empty", "cut", "other", "gone"])
def test_a_damaged_file_is_named_in_one_sentence(tmp_path: Path, workers: int, damage: str) -> None:
    (tmp_path / "n1").mkdir()
    names = [f"n1/{i}.JPEG" for i in range(4)]
    for i, name in enumerate(names):
        pillow(photograph(40, 40, seed=i)).save(tmp_path / name)
    path = tmp_path / names[2]
    content = {"empty": b"", "cut": path.read_bytes()[:300], "other": b"GIF? no", "gone": b""}[damage]
    path.write_bytes(content)
    if damage == "gone":
        path.unlink()
    images = ImageFiles.of(tmp_path, names, ResizedCrop(8, resize=9))
    with pytest.raises(DataError, match=re.escape(f"{path} cannot be read as an image (")) as caught:
        list(images.batches([torch.arange(2), torch.arange(2, 4)], None, workers))
    assert "\n" not in str(caught.value)


def test_a_file_that_claims_to_be_enormous(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pillow(photograph(40, 50)).save(tmp_path / "x.png")
    decode(tmp_path / "x.png")
    monkeypatch.setattr(files, "LARGEST", 1999)
    with pytest.raises(DataError, match="it claims 50×40 pixels, more than 1,999"):
        decode(tmp_path / "x.png")


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match="Pillow, which is not installed: pip install pillow"):
        decode(tmp_path / "x.png")


def test_names_are_kept_in_one_string(tmp_path: Path) -> None:
    names = [f"n{i}/ü{i}" + "x" * (i % 7) + ".JPEG" for i in range(1000)]
    images = ImageFiles.of(tmp_path, names, ResizedCrop())
    assert [images.path(i) for i in range(1000)] == [tmp_path / name for name in names]
    some = images[torch.tensor([7, 3, 999])]
    assert [some.path(i) for i in range(3)] == [tmp_path / names[i] for i in (7, 3, 999)]
    # What a worker is given has few objects that it could write to.
    assert len(pickle.dumps(images)) < sum(map(len, names)) + 1000 * 16 + 3000


def layout(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / "imagenet" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ([], "imagenet/train is missing .*: ImageNet is given only to those who register at image-net.org; unpack .*"),
        (["train/n1/a.JPEG"], "imagenet/val is missing"),
        (["train/a.JPEG", "val/n1/a.JPEG"], "imagenet/train has no folders; one for each class"),
        (
            ["train/n1/a.JPEG", "train/n2/a.JPEG", "val/n1/a.JPEG"],
            "2 classes in train and 1 in val, and n2 in one only",
        ),
        (["train/n1/a.txt", "val/n1/a.JPEG"], "train/n1 has no images"),
    ],
)
def test_folders_that_are_not_imagenet(tmp_path: Path, names: list[str], sentence: str) -> None:
    layout(tmp_path, *names)
    with pytest.raises(DataError, match=sentence) as caught:
        load("imagenet", tmp_path)
    assert "\n" not in str(caught.value)


def test_files_in_order_and_others_passed_over(tmp_path: Path) -> None:
    names = [f"{i}.{suffix}" for i in (7, 3, 9, 1, 8, 2, 6, 4, 5, 0) for suffix in ("JPEG", "jpg")]
    others = ["._0.JPEG", "list.txt", "JPEG"]
    layout(tmp_path, *(f"train/n1/{name}" for name in names + others), "train/.git/x", "val/n1/a.PNG")
    data = imagenet.read(tmp_path / "imagenet", 224)
    assert isinstance(data.pixels, ImageFiles)
    assert [data.pixels.path(i).name for i in range(len(data.pixels))] == sorted(names)


def test_cores() -> None:
    assert 1 <= files.cores() <= min(8, os.cpu_count() or 1)
