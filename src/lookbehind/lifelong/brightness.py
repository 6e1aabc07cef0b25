"""Random brightness in training, as the code of Gupta et al. (2020) has for CIFAR-100."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lookbehind._checks import nonnegative
from lookbehind.data import CropAndFlip, ResizedCrop
from lookbehind.data.parts import Pixels, mixed_seed


@dataclass(frozen=True, eq=False)
class Brightness:
    """Images that in training are multiplied by a factor each, uniform over 1 ± ``strength``, and cut off at white.

    Args:
        pixels: the images, with their own augmentation, which comes first.
        strength: of the change, at most 1.

    """

    pixels: Pixels
    strength: float

    def __post_init__(self) -> None:
        if nonnegative("strength", self.strength) > 1:
            raise ValueError(f"strength is {self.strength}; at most 1 is allowed")

    @property
    def augmentation(self) -> CropAndFlip | ResizedCrop | None:
        """The images' own."""
        return self.pixels.augmentation

    @property
    def at_once(self) -> int:
        """As many as of the images themselves."""
        return self.pixels.at_once

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: Tensor) -> Brightness:
        return replace(self, pixels=self.pixels[index])

    def to(self, device: torch.device) -> Brightness:
        """Return the same images on a device."""
        return replace(self, pixels=self.pixels.to(device))

    def batches(self, chunks: Sequence[Tensor], seed: int | None, workers: int | None) -> Iterator[Tensor]:
        """Yield the images of each chunk of indices, made brighter or darker if there is a seed."""
        shown = self.pixels.batches(chunks, seed, workers)
        if seed is None:
            yield from shown
            return
        generator = torch.Generator().manual_seed(mixed_seed(seed, "brightness"))
        factors = 1 + self.strength * (2 * torch.rand(len(self), generator=generator) - 1)
        for chunk, images in zip(chunks, shown, strict=True):
            factor = factors[chunk].to(images.device).view(-1, 1, 1, 1)
            yield (images * factor).clamp_(max=255).to(torch.uint8)
