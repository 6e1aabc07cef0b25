"""A data set as it was published, before anything is held out or drawn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lookbehind.data.errors import DataError
from lookbehind.data.parts import Normalisation, Pixels


@dataclass(frozen=True, eq=False)
class Published:
    """Training images with labels, and test images with labels if there is an official split."""

    classes: tuple[str, ...]
    channels: int
    pixels: Pixels
    labels: Tensor
    test: tuple[Pixels, Tensor] | None
    normalisation: Normalisation | None  # None: measured on the training images that are chosen


def checked_labels(labels: Tensor, images: int, classes: int, where: object) -> Tensor:
    """Return labels as int64.

    Raises:
        DataError: if there is not one for each image, or one names no class.

    """
    if labels.shape != (images,):
        raise DataError(
            f"{where} holds labels of shape {tuple(labels.shape)} for {images:,} images; use an intact copy"
        )
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise DataError(f"{where} holds labels from {int(labels.min())} to {int(labels.max())} for {classes} classes")
    return labels.to(torch.int64)
