"""ImageNet (Russakovsky et al., 2015) from its usual folders: train/<wnid>/*.JPEG and val/<wnid>/*.JPEG."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from lookbehind.data.errors import DataError
from lookbehind.data.files import ImageFiles
from lookbehind.data.parts import Normalisation
from lookbehind.data.published import Published
from lookbehind.data.views import ResizedCrop

SUFFIXES = (".jpeg", ".jpg", ".png")


def read(folder: Path, size: int) -> Published:
    """List the files, with the settings of ResNets: mean and std of ImageNet, bilinear, 256 / 224 in evaluation."""
    normalisation = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return _read(folder, ResizedCrop(size, resize=round(size * 256 / 224)), normalisation)


def read_vit(folder: Path, size: int) -> Published:
    """List the files, with the settings of the Vision Transformers that timm publishes: bicubic, 248 / 224."""
    normalisation = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return _read(folder, ResizedCrop(size, resize=int(size / 0.9), interpolation="bicubic"), normalisation)


def _read(folder: Path, augmentation: ResizedCrop, normalisation: Normalisation) -> Published:
    classes = _classes(folder / "train")
    if classes != (others := _classes(folder / "val")):
        differing = sorted(set(classes) ^ set(others))
        raise DataError(
            f"{folder} has {len(classes)} classes in train and {len(others)} in val, and {differing[0]} in one only: "
            "both need one folder for each class"
        )
    pixels, labels = _files(folder / "train", classes, augmentation)
    return Published(classes, 3, pixels, labels, _files(folder / "val", classes, augmentation), normalisation)


def _classes(folder: Path) -> tuple[str, ...]:
    try:
        with os.scandir(folder) as entries:
            classes = tuple(sorted(e.name for e in entries if e.is_dir() and not e.name.startswith(".")))
    except OSError as error:
        raise DataError(
            f"{folder} is missing ({error.strerror}): ImageNet is given only to those who register at image-net.org; "
            "unpack ILSVRC2012_img_train.tar as train/<wnid>/*.JPEG and ILSVRC2012_img_val.tar as val/<wnid>/*.JPEG "
            f"in {folder.parent}, or name another root folder, as an argument or in LOOKBEHIND_DATA"
        ) from error
    if not classes:
        raise DataError(f"{folder} has no folders; one for each class is needed, named by its wnid")
    return classes


def _files(folder: Path, classes: tuple[str, ...], augmentation: ResizedCrop) -> tuple[ImageFiles, Tensor]:
    names, labels = [], []
    for label, wnid in enumerate(classes):
        with os.scandir(folder / wnid) as entries:
            found = sorted(e.name for e in entries if e.name.lower().endswith(SUFFIXES) and not e.name.startswith("."))
        if not found:
            raise DataError(f"{folder / wnid} has no images; remove the folder or restore them")
        names += [f"{wnid}/{name}" for name in found]
        labels += [label] * len(found)
    return ImageFiles.of(folder, names, augmentation), torch.tensor(labels)
