"""Views of photographs of any size: a random part of them in training, the middle in evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn


class Box(NamedTuple):
    """A part of an image, in pixels, and whether it is flipped left to right."""

    top: int
    left: int
    height: int
    width: int
    flip: bool


@dataclass(frozen=True)
class ResizedCrop:
    """A random box, resized and flipped at random (Szegedy et al., 2015); the resized image's centre in evaluation.

    The box has an area uniform over ``scale`` of the image's and an aspect ratio log-uniform over ``ratio``. It is
    drawn up to ten times until it lies inside the image; failing that, it is the largest central box with an allowed
    aspect ratio. Resizing smooths as it shrinks, and equals that of Pillow up to rounding.

    Args:
        size: height and width of the result. Default 224.
        resize: length of the shorter side in evaluation, before the centre is cut out. Default 256.
        interpolation: "bilinear" or "bicubic". Default "bilinear".
        scale: range of the box's area relative to the image's. Default (0.08, 1).
        ratio: range of the box's width / height. Default (3/4, 4/3).
        flip: flip every second image in training. Default True.

    Example:
        >>> view = ResizedCrop(size=8, resize=9)
        >>> view.evaluation(torch.zeros(3, 20, 30, dtype=torch.uint8)).shape
        torch.Size([3, 8, 8])

    """

    size: int = 224
    resize: int = 256
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.size <= self.resize:
            raise ValueError(f"size is {self.size} and resize {self.resize}; 1 ≤ size ≤ resize is needed")
        if self.interpolation not in ("bilinear", "bicubic"):
            raise ValueError(f"interpolation is {self.interpolation!r}; allowed are 'bilinear' and 'bicubic'")

    def draw(self, height: int, width: int, generator: torch.Generator) -> Box:
        """Draw the part of an image of this size that is shown in training."""
        flip = self.flip and torch.rand((), generator=generator).item() < 0.5
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(10):
            area, aspect, down, right = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
            area = (self.scale[0] + area * (self.scale[1] - self.scale[0])) * height * width
            aspect = math.exp(low + aspect * (high - low))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                return Box(int(down * (height - h + 1)), int(right * (width - w + 1)), h, w, flip)
        aspect = min(max(width / height, self.ratio[0]), self.ratio[1])
        w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
        return Box((height - h) // 2, (width - w) // 2, h, w, flip)

    def training(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Return a random view of a uint8 image of shape (c, h, w), of shape (c, size, size)."""
        return self.shown(image, self.draw(image.shape[1], image.shape[2], generator))

    def shown(self, image: Tensor, box: Box) -> Tensor:
        """Return the part of an image inside a box, of shape (c, size, size)."""
        part = image[:, box.top : box.top + box.height, box.left : box.left + box.width]
        part = self._resized(part, self.size, self.size)
        return part.flip(2) if box.flip else part

    def evaluation(self, image: Tensor) -> Tensor:
        """Return the centre of a uint8 image of shape (c, h, w), of shape (c, size, size)."""
        height, width = image.shape[1:]
        short = min(height, width)
        image = self._resized(image, self.resize * height // short, self.resize * width // short)
        top, left = (round((length - self.size) / 2) for length in image.shape[1:])
        return image[:, top : top + self.size, left : left + self.size]

    def _resized(self, image: Tensor, height: int, width: int) -> Tensor:
        return nn.functional.interpolate(
            image.unsqueeze(0), (height, width), mode=self.interpolation, align_corners=False, antialias=True
        ).squeeze(0)
