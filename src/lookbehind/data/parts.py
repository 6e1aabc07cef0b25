"""Part of a data set, as minibatches: in order for measuring, shuffled and augmented for training."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor

from lookbehind.data.augmentation import CropAndFlip
from lookbehind.data.views import ResizedCrop

Minibatch = tuple[Tensor, Tensor]


class Pixels(Protocol):
    """Images, wherever they are: what ``InMemory`` and ``ImageFiles`` have in common."""

    @property
    def augmentation(self) -> CropAndFlip | ResizedCrop | None:
        """Return how images are shown in training."""

    @property
    def at_once(self) -> int:
        """Return how many images are best augmented and normalised together, if minibatches are smaller than that."""

    def __len__(self) -> int:
        """Return the number of images."""

    def __getitem__(self, index: Tensor) -> Pixels:
        """Return some of the images."""

    def to(self, device: torch.device) -> Pixels:
        """Return images that yield minibatches on a device."""

    def batches(self, chunks: Sequence[Tensor], seed: int | None, workers: int | None) -> Iterator[Tensor]:
        """Yield uint8 images of shape (n, c, h, w) for each chunk of indices, augmented if there is a seed."""


@dataclass(frozen=True)
class Normalisation:
    """From bytes to what a model sees: (pixel / scale - mean) / std for each channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 255.0

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return float32 images."""
        mean, std = _columns(self, pixels.device)
        return pixels.to(torch.float32, copy=True).div_(self.scale).sub_(mean).div_(std)


@lru_cache(maxsize=16)
def _columns(normalisation: Normalisation, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and std on a device, kept there: a copy for each minibatch would make the device wait."""
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device=device) for values in (normalisation.mean, normalisation.std)
    )
    return mean.view(-1, 1, 1), std.view(-1, 1, 1)


@dataclass(frozen=True, eq=False)
class Part:
    """Images with labels: the training, validation or test part of a data set.

    ``labels`` are int64, shape (n,), on the device of the minibatches.
    """

    pixels: Pixels
    labels: Tensor
    normalisation: Normalisation

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Part:
        """Return the same part with minibatches on a device."""
        device = torch.device(device)
        return replace(self, pixels=self.pixels.to(device), labels=self.labels.to(device))

    def minibatches(self, batch: int = 128, *, workers: int | None = None) -> Minibatches:
        """Return minibatches in order, without augmentation, that can be gone through again and again.

        Args:
            batch: images a minibatch; the last has what is left. Default 128.
            workers: processes that decode images from disk. Default: one for each available core, at most 8. Images
                in memory need none.

        Returns:
            An iterable of pairs (images, labels) with a length: float32 of shape (batch, c, h, w) and int64.

        Raises:
            ValueError: if ``batch`` is no whole number from 1 on.

        """
        return Minibatches(self, batch, workers)

    def shuffled(
        self,
        batch: int = 128,
        *,
        seed: int = 0,
        augment: bool = True,
        drop_last: bool = False,
        workers: int | None = None,
    ) -> Shuffled:
        """Return minibatches for training: each pass is an epoch in a new order, with new augmentation.

        Args:
            batch: images a minibatch. Default 128.
            seed: with the number of the epoch it decides order and augmentation. Default 0.
            augment: crop and flip at random, as the data set says. Default True.
            drop_last: leave out the last minibatch if it is smaller. Default False.
            workers: as for ``minibatches``.

        Returns:
            A ``Shuffled``.

        Raises:
            ValueError: if ``batch`` is no whole number from 1 on, or there would be no minibatch.

        """
        return Shuffled(self, batch, seed, augment, drop_last, workers)

    def tensors(self) -> Minibatch:
        """Return all images, normalised and not augmented, and all labels: for parts that are small."""
        index = torch.arange(len(self))
        return self.normalisation(next(self.pixels.batches([index], None, None))), self.labels


class Minibatches:
    """Minibatches in order, the same at each pass."""

    def __init__(self, part: Part, batch: int, workers: int | None) -> None:
        self._part, self._batch, self._workers = part, _positive(batch), workers

    def __len__(self) -> int:
        return -(-len(self._part) // self._batch)

    def __iter__(self) -> Iterator[Minibatch]:
        chunks = torch.arange(len(self._part)).split(self._batch) if len(self._part) else []
        return _minibatches(self._part, chunks, None, self._workers)


class Shuffled:
    """Minibatches of one epoch after another; the state is the number of the epoch and the place in it.

    A pass (``for images, labels in batches``) yields what is left of the current epoch. So after ``load_state_dict``
    training continues with the minibatch that would have been next. One pass at a time. For an endless stream:
    ``itertools.chain.from_iterable(itertools.repeat(batches))``.

    Example:
        >>> from lookbehind.data import load
        >>> batches = load("digits").train.shuffled(batch=100, seed=3)
        >>> for images, labels in batches:
        ...     if batches.position == 4:
        ...         break
        >>> again = load("digits").train.shuffled(batch=100, seed=3)
        >>> again.load_state_dict(batches.state_dict())
        >>> torch.equal(next(iter(again))[0], next(iter(batches))[0])
        True

    """

    def __init__(
        self, part: Part, batch: int, seed: int, augment: bool, drop_last: bool, workers: int | None = None
    ) -> None:
        if not len(part):
            raise ValueError("there are no images in this part; hold out fewer or ask for more")
        if drop_last and _positive(batch) > len(part):
            raise ValueError(f"batch is {batch}, more than the {len(part)} images, and drop_last would leave nothing")
        self._part, self._workers = part, workers
        self._settings = {
            "batch": _positive(batch),
            "seed": seed,
            "augment": augment,
            "drop_last": drop_last,
            "images": len(part),
        }
        self.epoch = 0
        self.position = 0  # minibatches of this epoch that were given away

    def __len__(self) -> int:
        """Return the number of minibatches in an epoch."""
        full, rest = divmod(len(self._part), self._settings["batch"])
        return full + (rest > 0 and not self._settings["drop_last"])

    def __iter__(self) -> Iterator[Minibatch]:
        order = torch.randperm(len(self._part), generator=torch.Generator().manual_seed(self._mixed("order")))
        chunks = order.split(self._settings["batch"])[self.position : len(self)]
        augmentation = self._mixed("augmentation") if self._settings["augment"] else None
        for minibatch in _minibatches(self._part, chunks, augmentation, self._workers):
            self.position += 1
            yield minibatch
        self.epoch, self.position = self.epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the place in training, and what it is a place in."""
        return {"epoch": self.epoch, "position": self.position, **self._settings}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved place.

        Raises:
            ValueError: if it was saved with other settings, under which the same place would be another.

        """
        for name, value in self._settings.items():
            if state.get(name) != value:
                raise ValueError(f"{name} is {value} but was {state.get(name)} when the state was saved; use the same")
        self.epoch, self.position = state["epoch"], state["position"]

    def _mixed(self, purpose: str) -> int:
        return mixed_seed(self._settings["seed"], purpose, self.epoch)


def mixed_seed(*what: int | str) -> int:
    """Return a seed for a purpose: seeds that are near each other give unrelated ones."""
    return int.from_bytes(hashlib.blake2b(repr(what).encode(), digest_size=7).digest(), "little")


def _minibatches(part: Part, chunks: Sequence[Tensor], seed: int | None, workers: int | None) -> Iterator[Minibatch]:
    if not chunks:
        return
    batch = len(chunks[0])
    at_once = max(1, part.pixels.at_once // batch)
    groups = [torch.cat(list(chunks[i : i + at_once])) for i in range(0, len(chunks), at_once)]
    for group, pixels in zip(groups, part.pixels.batches(groups, seed, workers), strict=True):
        images, labels = part.normalisation(pixels), part.labels[group.to(part.labels.device)]
        yield from zip(images.split(batch), labels.split(batch), strict=True)


def _positive(batch: int) -> int:
    if not isinstance(batch, int) or batch < 1:
        raise ValueError(f"batch is {batch}; a whole number from 1 on is needed")
    return batch
