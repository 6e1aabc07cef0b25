"""Crops and flips of a batch against the image by image pipeline, pixel by pixel and in distribution."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from lookbehind.data import CropAndFlip
from lookbehind.data.memory import InMemory


def naive(image: list[list[int]], padding: int, down: int, right: int, flip: bool, border: str) -> list[list[int]]:
    """Pad a list of rows, cut out, turn around: as one would by hand."""
    h, w = len(image), len(image[0])

    def pixel(row: int, column: int) -> int:
        if border == "zeros":
            return image[row][column] if 0 <= row < h and 0 <= column < w else 0
        mirror = lambda i, n: -i if i < 0 else 2 * (n - 1) - i if i >= n else i  # noqa: E731
        return image[mirror(row, h)][mirror(column, w)]

    padded = [[pixel(r, c) for c in range(-padding, w + padding)] for r in range(-padding, h + padding)]
    crop = [row[right : right + w] for row in padded[down : down + h]]
    return [row[::-1] for row in crop] if flip else crop


@settings(max_examples=60, deadline=None)
@given(
    padding=st.integers(0, 4),
    h=st.integers(5, 9),
    w=st.integers(5, 9),
    channels=st.integers(1, 3),
    border=st.sampled_from(["zeros", "reflect"]),
    flip=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_equals_the_naive_crop(padding: int, h: int, w: int, channels: int, border: str, flip: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(1, 256, (7, channels, h, w), dtype=torch.uint8, generator=generator)
    augmentation = CropAndFlip(padding, flip, border)
    offsets, flips = augmentation.draw(7, generator)
    result = augmentation.apply(images, offsets, flips)
    assert result.dtype == torch.uint8
    for n, c in itertools.product(range(7), range(channels)):
        down, right = offsets[n].tolist()
        expected = naive(images[n, c].tolist(), padding, down, right, bool(flips[n]), border)
        assert result[n, c].tolist() == expected
    assert flip or not flips.any()


def test_each_offset_and_flip_is_equally_frequent() -> None:
    # 5 × 5 offsets and 2 flips: 50 cells. Seen in the pixels themselves, each of which has a value of its own.
    image = torch.arange(1, 82, dtype=torch.uint8).view(1, 1, 9, 9)
    n = 20_000
    images = InMemory(image.expand(n, -1, -1, -1), CropAndFlip(padding=2))
    (shown,) = images.batches([torch.arange(n)], seed=5, workers=None)
    centre = shown[:, 0, 4, 4].to(torch.int64) - 1  # the pixel shown in the middle tells the offsets
    flipped = shown[:, 0, 4, 3] > shown[:, 0, 4, 4]
    cells = (centre // 9 - 2) * 10 + (centre % 9 - 2) * 2 + flipped
    counts = cells.bincount(minlength=50)
    assert len(counts) == 50
    assert stats.chisquare(counts).pvalue > 1e-3
    assert stats.chisquare([50] * 49 + [150]).pvalue < 1e-3  # the test can fail


def test_draws_of_images_and_epochs_are_unrelated() -> None:
    draws = [CropAndFlip(padding=1).draw(4_000, torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    cells = [offsets[:, 0] * 6 + offsets[:, 1] * 2 + flips for offsets, flips in draws]
    for first, second in [(cells[0], cells[1]), (cells[0][:-1], cells[0][1:])]:
        table = torch.zeros(18, 18).index_put_((first, second), torch.ones(len(first)), accumulate=True)
        assert stats.chi2_contingency(table).pvalue > 1e-3


def test_what_is_drawn_depends_on_seed_and_image_alone() -> None:
    images = InMemory(torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8), CropAndFlip(padding=2))

    def shown(chunks: tuple[Tensor, ...], seed: int) -> Tensor:
        order = torch.cat(chunks)
        return torch.cat(list(images.batches(chunks, seed, None)))[order.argsort()]

    once = shown((torch.arange(20),), 3)
    assert torch.equal(once, shown(torch.randperm(20).split(7), 3))
    assert not torch.equal(once, shown((torch.arange(20),), 4))


def test_the_images_stay_as_they_are() -> None:
    images = torch.randint(0, 256, (9, 3, 8, 8), dtype=torch.uint8)
    before = images.clone()
    held = InMemory(images, CropAndFlip())
    list(held.batches([torch.arange(9)], 1, None))
    (plain,) = held.batches([torch.arange(9)], None, None)
    assert torch.equal(images, before)
    assert torch.equal(plain, before)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [({"padding": -1}, "padding is -1; a number"), ({"border": "wrap"}, "border is 'wrap'; allowed are 'zeros'")],
)
def test_mistakes(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        CropAndFlip(**arguments)


def test_too_small_to_reflect() -> None:
    augmentation = CropAndFlip(padding=4, border="reflect")
    with pytest.raises(ValueError, match="padding is 4; reflection of 4×6 images"):
        augmentation.apply(torch.zeros(1, 1, 4, 6), *augmentation.draw(1, torch.Generator()))
