"""Choose training, validation and test images, and draw label noise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Selection:
    """All that decides images and labels, to be saved with a run: ``load(**selection.to_dict())`` gives them again.

    Args:
        dataset: a name in ``DATASETS``.
        seed: decides what is held out, which subset is taken, and the noise.
        train: number of training images.
        validation: number of images held out of the training images.
        test: number of test images.
        stratified: each of the three has the classes in the proportions of the whole, up to an image or two.
        noise: fraction of the training labels that are drawn anew, uniformly over all classes.
        size: height and width of the images.

    """

    dataset: str
    seed: int
    train: int
    validation: int
    test: int
    stratified: bool
    noise: float
    size: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as JSON takes them."""
        return asdict(self)


def arranged(labels: Tensor, stratified: bool, generator: torch.Generator) -> Tensor:
    """Return the indices of labels in random order.

    Stratified, any beginning of it, and so any end, has the classes in the proportions of the whole: the j-th of a
    class of n takes the place (j + ½) / n, and equal places are in random order. A class is off by at most half an
    image, and another half times its size relative to the mean class: if all are equally large, by one.
    """
    order = torch.randperm(len(labels), generator=generator)
    if not stratified:
        return order
    place = torch.empty(len(labels), dtype=torch.float64)
    shuffled = labels[order]
    for label in shuffled.unique():
        mine = (shuffled == label).nonzero().squeeze(1)
        place[mine] = (torch.arange(len(mine), dtype=torch.float64) + 0.5) / len(mine)
    return order[place.argsort(stable=True)]


def chosen(
    labels: Tensor,
    test_labels: Tensor | None,
    *,
    train: int | None,
    default: int | None,
    validation: int | None,
    test: int | None,
    stratified: bool,
    seed: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the indices of training, validation and test images.

    Training images are the beginning of a random order and validation images its end, so that one does not move the
    other. Without official test images, those that are not trained on are divided into validation and test.
    """
    order = arranged(labels, stratified, generator)
    n = len(order)
    if test_labels is None:
        train = _taken("train", train, 1, n - 2, n // 2 if default is None else default)
        rest = order[train:]
        validation = _taken("validation", validation, 0, len(rest) - 1, len(rest) // 2)
        held_out, tested = rest[:validation], rest[validation:]
        return order[:train], held_out, tested[: _taken("test", test, 1, len(tested), len(tested))]
    validation = _taken("validation", validation, 0, n - 1, n // 10)
    train = _taken("train", train, 1, n - validation, n - validation if default is None else default)
    tested = arranged(test_labels, stratified, torch.Generator().manual_seed(seed))
    tested = tested[: _taken("test", test, 1, len(tested), len(tested))]
    return order[:train], order[n - validation :], tested.sort().values


def redrawn(labels: Tensor, noise: float, classes: int, generator: torch.Generator) -> Tensor:
    """Draw a fraction of the labels anew, uniformly over all classes: one in ``classes`` of them stays right."""
    chosen = torch.randperm(len(labels), generator=generator)[: round(noise * len(labels))]
    noisy = labels.clone()
    noisy[chosen] = torch.randint(classes, (len(chosen),), generator=generator)
    return noisy


def checked_noise(noise: float) -> None:
    """Refuse a noise that is no fraction.

    Raises:
        ValueError: if it is below 0 or above 1.

    """
    if not 0 <= noise <= 1:
        raise ValueError(f"noise is {noise}; a fraction from 0 to 1 is needed")


def _taken(name: str, wanted: int | None, fewest: int, most: int, default: int) -> int:
    """Return how many images to take.

    Raises:
        ValueError: if there are not as many.

    """
    if wanted is None:
        return default
    if isinstance(wanted, bool) or not isinstance(wanted, int) or not fewest <= wanted <= most:
        raise ValueError(f"{name} is {wanted!r}; a whole number from {fewest} to {most} is needed")
    return wanted
