"""Images in memory, as bytes, augmented in minibatches on their device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lookbehind.data.augmentation import CropAndFlip


@dataclass(frozen=True, eq=False)
class InMemory:
    """Images of type uint8 and shape (n, c, h, w)."""

    images: Tensor
    augmentation: CropAndFlip | None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Tensor) -> InMemory:
        return replace(self, images=self.images[index.to(self.images.device)])

    @property
    def at_once(self) -> int:
        """Return how many images make a million numbers: of fewer, the calls would take longer than the work."""
        return 2**20 // max(1, self.images[:1].numel())

    def to(self, device: torch.device) -> InMemory:
        """Return the same images on a device."""
        return replace(self, images=self.images.to(device))

    def batches(self, chunks: Sequence[Tensor], seed: int | None, workers: int | None) -> Iterator[Tensor]:
        """Yield the images of each chunk of indices, augmented if there is a seed. Workers have nothing to do.

        What is drawn for an image depends on the seed and the image alone, and not on the chunks.
        """
        device = self.images.device
        if seed is None or self.augmentation is None:
            yield from (self.images[chunk.to(device)] for chunk in chunks)
            return
        draws = self.augmentation.draw(len(self), torch.Generator().manual_seed(seed))
        for chunk in chunks:
            offsets, flips = (draw[chunk].to(device) for draw in draws)
            yield self.augmentation.apply(self.images[chunk.to(device)], offsets, flips)
