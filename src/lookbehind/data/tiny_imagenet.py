"""Tiny-ImageNet: 110,000 colour 64×64 pictures of 200 classes of ImageNet, from the archive of Stanford's CS231n.

They are decoded straight from the archive into memory, where they take 1.4 GB. The published test images have no
labels, so the 10,000 validation images are the test images, as in the code of Gupta et al. (2020).
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lookbehind.data.augmentation import CropAndFlip
from lookbehind.data.download import File
from lookbehind.data.errors import DataError
from lookbehind.data.memory import InMemory
from lookbehind.data.parts import Normalisation
from lookbehind.data.published import Published

SIDE = 64
LARGEST = 1 << 20  # bytes of a member; the published ones have less than 100 kB
ARCHIVE = File(
    "tiny-imagenet-200.zip",
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    248_100_043,
    "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
)
NORMALISATION = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # ImageNet's


def read(folder: Path, size: int) -> Published:
    """Read all images. Classes are named by their wnids, in the order of wnids.txt.

    Raises:
        DataError: if the archive is missing, damaged or holds something else.

    """
    path = folder / ARCHIVE.name
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(_Archive(archive))
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, UnicodeDecodeError, DataError) as error:
        raise DataError(f"{path} is missing, damaged, or not the published archive ({error})") from error


class _Archive:
    """The members of the archive under its one folder."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.names = set(archive.namelist())

    def content(self, name: str) -> bytes:
        full = f"tiny-imagenet-200/{name}"
        if full not in self.names:
            raise DataError(f"it lacks {full}")
        if (size := self.archive.getinfo(full).file_size) > LARGEST:
            raise DataError(f"{full} has {size:,} bytes")
        return self.archive.read(full)

    def lines(self, name: str) -> list[str]:
        return [line for line in self.content(name).decode("utf-8").splitlines() if line.strip()]

    def images_of(self, wnid: str) -> list[str]:
        """The training images of a class, in the order of their numbers."""
        folder = f"tiny-imagenet-200/train/{wnid}/images/"
        found = [name for name in self.by_folder.get(folder, []) if name.endswith(".JPEG")]
        if not found:
            raise DataError(f"it has no images in {folder}")
        return sorted((f"train/{wnid}/images/{name}" for name in found), key=lambda name: (len(name), name))

    @property
    def by_folder(self) -> dict[str, list[str]]:
        if not hasattr(self, "_by_folder"):
            self._by_folder: dict[str, list[str]] = {}
            for name in self.names:
                folder, _, file = name.rpartition("/")
                self._by_folder.setdefault(f"{folder}/", []).append(file)
        return self._by_folder


def _read(archive: _Archive) -> Published:
    classes = tuple(archive.lines("wnids.txt"))
    if len(set(classes)) != len(classes) or not classes:
        raise DataError("wnids.txt has no classes, or one twice")
    number = {wnid: i for i, wnid in enumerate(classes)}
    train = [(name, number[wnid]) for wnid in classes for name in archive.images_of(wnid)]
    tested = []
    for line in archive.lines("val/val_annotations.txt"):
        name, wnid, *_ = [*line.split("\t"), ""]
        if wnid not in number:
            raise DataError(
                f"val_annotations.txt says that {name!r} is of class {wnid!r}, which wnids.txt does not list"
            )
        tested.append((f"val/images/{name}", number[wnid]))
    augmentation = CropAndFlip(padding=4)
    pixels, labels = _decoded(archive, train)
    test_pixels, test_labels = _decoded(archive, tested)
    test = InMemory(test_pixels, augmentation), test_labels
    return Published(classes, 3, InMemory(pixels, augmentation), labels, test, NORMALISATION)


def _decoded(archive: _Archive, images: Sequence[tuple[str, int]]) -> tuple[Tensor, Tensor]:
    if not images:
        raise DataError("it lists no validation images")
    pixels = torch.empty(len(images), 3, SIDE, SIDE, dtype=torch.uint8)
    for i, (name, _) in enumerate(images):
        pixels[i] = _image(archive.content(name), name)
    return pixels, torch.tensor([label for _, label in images])


def _image(content: bytes, name: str) -> Tensor:
    """Return an image of shape (3, 64, 64); some are grey, and get three equal channels."""
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError("image files are read with Pillow, which is not installed: pip install pillow") from error
    try:
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as file:
            if file.size != (SIDE, SIDE):
                raise DataError(f"it has {file.size[0]}×{file.size[1]} pixels")
            values = bytearray(file.convert("RGB").tobytes())
    except Exception as error:  # Pillow raises many kinds for files that are damaged
        raise DataError(f"{name} cannot be read as an image of {SIDE}×{SIDE} pixels: {error}") from error
    return torch.frombuffer(values, dtype=torch.uint8).view(SIDE, SIDE, 3).permute(2, 0, 1)
