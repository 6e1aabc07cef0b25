"""Views of photographs against Pillow, the definition of a triangle filter, and a naive drawing of boxes."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from torch import Tensor

from lookbehind.data import ResizedCrop
from lookbehind.data.views import Box


def photograph(height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth with some grain, like a photograph."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 12, 12, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")[0]
    return (255 * smooth + 20 * torch.rand(3, height, width, generator=generator)).clamp(0, 255).to(torch.uint8)


def pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy().copy())


def tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def close(a: Tensor, b: Tensor) -> bool:
    """Both round, and cut off at 0 and 255, after each of two passes, but not always in the same order of these.

    A shift by one pixel changes these photographs by 6 levels of grey in the mean.
    """
    difference = (a.int() - b.int()).abs()
    return a.shape == b.shape and int(difference.max()) <= 8 and difference.float().mean().item() < 0.4


FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("shape", [(300, 400), (400, 300), (256, 256), (100, 137), (513, 260)])
def test_evaluation_is_pillows_resize_and_the_centre(shape: tuple[int, int], interpolation: str) -> None:
    image = photograph(*shape)
    view = ResizedCrop(64, resize=72, interpolation=interpolation)
    height, width = shape
    size = (72, int(72 * height / width)) if width < height else (int(72 * width / height), 72)
    resized = pillow(image).resize(size, FILTERS[interpolation])
    left, top = (round((length - 64) / 2) for length in size)
    assert close(view.evaluation(image), tensor(resized.crop((left, top, left + 64, top + 64))))


@settings(max_examples=30, deadline=None)
@given(st.data(), st.sampled_from(list(FILTERS)))
def test_training_is_pillows_crop_resize_and_flip(data: st.DataObject, interpolation: str) -> None:
    image = photograph(90, 120, seed=data.draw(st.integers(0, 5)))
    h = data.draw(st.integers(12, 80))
    w = data.draw(st.integers(math.ceil(h * 3 / 4), math.floor(h * 4 / 3)))
    top, left = data.draw(st.integers(0, 90 - h)), data.draw(st.integers(0, 120 - w))
    flip = data.draw(st.booleans())
    view = ResizedCrop(32, resize=32, interpolation=interpolation)
    expected = pillow(image).crop((left, top, left + w, top + h)).resize((32, 32), FILTERS[interpolation])
    if flip:
        expected = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert close(view.shown(image, Box(top, left, h, w, flip)), tensor(expected))


def test_the_comparison_sees_a_shift_by_one_pixel() -> None:
    image = photograph(60, 60)
    assert not close(image[:, :, 1:], image[:, :, :-1])
    assert not close(image, image.flip(2))


def test_shrinking_is_a_triangle_filter() -> None:
    # One row of pixels, three times as long as the result: weights of a triangle of half-width 3, in float64.
    row = photograph(1, 30)[0, 0].double()
    expected = []
    for i in range(10):
        centre = (i + 0.5) * 3
        weights = torch.tensor([max(0.0, 1 - abs(j + 0.5 - centre) / 3) for j in range(30)], dtype=torch.float64)
        expected.append((weights * row).sum() / weights.sum())
    image = row.to(torch.uint8).expand(3, 30, 30).contiguous()
    shown = ResizedCrop(10, resize=10).evaluation(image)[0, 5].double()
    assert (shown - torch.stack(expected)).abs().max() <= 1


def naive_box(height: int, width: int, rng: random.Random) -> tuple[int, int, int, int, bool]:
    """Inception's box as usually written down, with Python's random numbers."""
    flip = rng.random() < 0.5
    for _ in range(10):
        area = rng.uniform(0.08, 1) * height * width
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return rng.randint(0, height - h), rng.randint(0, width - w), h, w, flip
    raise AssertionError("not for these sizes")


@pytest.mark.parametrize("shape", [(300, 400), (64, 48)])
def test_boxes_are_distributed_as_the_naive_ones(shape: tuple[int, int]) -> None:
    generator, rng, n = torch.Generator().manual_seed(0), random.Random(0), 3000
    ours = [ResizedCrop().draw(*shape, generator) for _ in range(n)]
    naive = [Box(*naive_box(*shape, rng)) for _ in range(n)]
    for quantity in (
        lambda b: b.height * b.width,
        lambda b: b.width / b.height,
        lambda b: b.top,
        lambda b: b.left,
        lambda b: b.top / (shape[0] - b.height + 1),
        lambda b: b.top + b.height,
        lambda b: b.left + b.width,
    ):
        assert stats.ks_2samp([quantity(b) for b in ours], [quantity(b) for b in naive]).pvalue > 1e-3
    assert stats.binomtest(sum(b.flip for b in ours), n).pvalue > 1e-3
    assert all(b.top >= 0 and b.top + b.height <= shape[0] for b in ours)
    assert all(b.left >= 0 and b.left + b.width <= shape[1] for b in ours)


def test_areas_and_aspects_are_uniform_over_their_ranges() -> None:
    generator, n = torch.Generator().manual_seed(0), 2000
    areas = [ResizedCrop(scale=(0.1, 0.5), ratio=(1, 1)).draw(1000, 1000, generator) for _ in range(n)]
    assert stats.kstest([b.height * b.width / 1e6 for b in areas], stats.uniform(0.1, 0.4).cdf).pvalue > 1e-3
    aspects = [ResizedCrop(scale=(0.2, 0.2), ratio=(1, 3)).draw(1000, 1000, generator) for _ in range(n)]
    logs = [math.log(b.width / b.height) for b in aspects]
    assert stats.kstest(logs, stats.uniform(0, math.log(3)).cdf).pvalue > 1e-3


@settings(max_examples=200, deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 600), turned=st.booleans(), seed=st.integers(0, 99))
def test_boxes_are_inside_images_of_any_shape(height: int, width: int, turned: bool, seed: int) -> None:
    if turned:
        height, width = width, height
    box = ResizedCrop().draw(height, width, torch.Generator().manual_seed(seed))
    assert 0 <= box.top < box.top + box.height <= height
    assert 0 <= box.left < box.left + box.width <= width


@pytest.mark.parametrize(("shape", "box"), [((10, 1000), (0, 493, 10, 13)), ((1000, 10), (493, 0, 13, 10))])
def test_an_image_that_no_box_fits_shows_its_middle(shape: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    view = ResizedCrop(scale=(0.9, 1.0))
    assert view.draw(*shape, torch.Generator())[:4] == box


def test_edges_reach_the_last_pixel() -> None:
    tops = {ResizedCrop(scale=(0.2, 0.3)).draw(6, 6, torch.Generator().manual_seed(s))[:3:2] for s in range(300)}
    assert {top for top, height in tops if height == 3} == {0, 1, 2, 3}


def test_whole_image_without_resizing_is_the_image() -> None:
    image = photograph(20, 20)
    assert torch.equal(ResizedCrop(20, resize=20).evaluation(image), image)
    assert torch.equal(ResizedCrop(20, resize=20).shown(image, Box(0, 0, 20, 20, True)), image.flip(2))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"size": 0}, "size is 0 and resize 256"),
        ({"size": 224, "resize": 200}, "size is 224 and resize 200; 1 ≤ size ≤ resize"),
        ({"interpolation": "nearest"}, "interpolation is 'nearest'; allowed are"),
    ],
)
def test_mistakes(arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ResizedCrop(**arguments)
