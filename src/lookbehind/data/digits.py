"""The 1,797 handwritten digits that ship inside scikit-learn (8×8, grey, ten classes; UCI, CC BY 4.0)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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
    from sklearn import datasets

    source = datasets.load_digits()
    images = torch.tensor(source.images, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(source.target, dtype=torch.int64)
    if not 1 <= train <= len(images) - 2:
        raise ValueError(f"train is {train}; a number from 1 to {len(images) - 2} is needed")
    if not 0 <= noise <= 1:
        raise ValueError(f"noise is {noise}; a fraction from 0 to 1 is needed")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=generator)
    images, labels = images[order], labels[order]
    images = (images - images[:train].mean()) / images[:train].std()
    middle = train + (len(images) - train) // 2
    return Digits(
        train_images=images[:train],
        train_labels=_redraw(labels[:train], noise, generator),
        clean_labels=labels[:train],
        validation_images=images[train:middle],
        validation_labels=labels[train:middle],
        test_images=images[middle:],
        test_labels=labels[middle:],
    )


def _redraw(labels: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    chosen = torch.randperm(len(labels), generator=generator)[: round(noise * len(labels))]
    noisy = labels.clone()
    noisy[chosen] = torch.randint(CLASSES, (len(chosen),), generator=generator)
    return noisy
