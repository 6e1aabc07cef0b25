"""The 1,797 handwritten digits that ship inside scikit-learn (8×8, grey, ten classes; UCI, CC BY 4.0)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from lookbehind.data.errors import DataError
from lookbehind.data.memory import InMemory
from lookbehind.data.published import Published
from lookbehind.data.selection import arranged, checked_noise, redrawn

CLASSES = 10


@dataclass(frozen=True)
class Digits:
    """Images of shape (n, 1, 8, 8), normalised by the training images' mean and standard deviation, and labels.

    ``train_labels`` are what a model is trained on, with noise if there is any; ``clean_labels`` are the true ones.
    """

    train_images: Tensor
    train_labels: Tensor
    clean_labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    def to(self, device: str) -> Digits:
        """Return the same data on a device."""
        return Digits(**{name: tensor.to(device) for name, tensor in vars(self).items()})


def load_digits(seed: int = 0, *, train: int = 1000, noise: float = 0.0) -> Digits:
    """Split the digits into training images and halves of the rest for validation and test; add label noise.

    The same images and labels as ``load("digits", ...)``, as tensors.

    Args:
        seed: decides the split and the noise.
        train: number of training images, 1 to 1795. Default 1000.
        noise: fraction of the training labels that are drawn anew, uniformly over the ten classes, so that nine in ten
            of them become wrong. Default 0.

    Returns:
        Tensors in memory. The same seed gives the same split with and without noise.

    Raises:
        ValueError: if ``train`` or ``noise`` is out of range.

    Example:
        >>> digits = load_digits(seed=0, noise=0.4)
        >>> len(digits.train_images), len(digits.validation_images), len(digits.test_images)
        (1000, 398, 399)

    """
    pixels, labels = _digits()
    images = pixels.to(torch.float32)
    if not 1 <= train <= len(images) - 2:
        raise ValueError(f"train is {train}; a number from 1 to {len(images) - 2} is needed")
    checked_noise(noise)
    generator = torch.Generator().manual_seed(seed)
    order = arranged(labels, False, generator)
    images, labels = images[order], labels[order]
    images = (images - images[:train].mean()) / images[:train].std()
    middle = train + (len(images) - train) // 2
    return Digits(
        train_images=images[:train],
        train_labels=redrawn(labels[:train], noise, CLASSES, generator),
        clean_labels=labels[:train],
        validation_images=images[train:middle],
        validation_labels=labels[train:middle],
        test_images=images[middle:],
        test_labels=labels[middle:],
    )


def read(folder: Path, size: int) -> Published:
    """Read the digits, which have no official test images. The folder means nothing."""
    images, labels = _digits()
    classes = tuple(map(str, range(CLASSES)))
    return Published(classes, 1, InMemory(images, augmentation=None), labels, None, None)


def _digits() -> tuple[Tensor, Tensor]:
    # Read as sklearn.datasets.load_digits does, whose import takes every process a second.
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError("the digits are part of scikit-learn, which is not installed: pip install scikit-learn")
    import numpy as np

    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    try:
        table = torch.from_numpy(np.loadtxt(file, np.uint8, delimiter=","))
    except (OSError, EOFError) as error:
        raise DataError(f"{file} cannot be read ({error}); install scikit-learn anew") from error
    return table[:, :-1].contiguous().view(-1, 1, 8, 8), table[:, -1].to(torch.int64)
