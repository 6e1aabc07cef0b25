"""The reservoir is uniform, and what it holds is what was pushed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lookbehind.lifelong import Reservoir


def kept(memory: Reservoir) -> torch.Tensor:
    return memory.state_dict()["labels"]


def filled(capacity: int, n: int, seed: int, piece: int = 10, published: bool = False) -> Reservoir:
    memory = Reservoir(capacity, seed=seed, published=published)
    for index in torch.arange(n).split(piece):
        memory.push(index.double().view(-1, 1), index)
    return memory


def test_every_image_is_kept_with_the_same_probability() -> None:
    """χ² over 1,500 reservoirs of 10 out of 60. (Images of one reservoir exclude each other: the variance is less.)"""
    counts = sum(torch.bincount(kept(filled(10, 60, seed)), minlength=60) for seed in range(1500))
    expected = 1500 * 10 / 60
    statistic = ((counts - expected) ** 2 / expected).sum().item() / (1 - 10 / 60)
    assert stats.chi2.ppf(0.001, 59) < statistic < stats.chi2.ppf(0.999, 59)


def test_the_published_code_prefers_the_first_images() -> None:
    """Accepting with probability M / (n + 1): the first M stay with (M + 1) / (N + 1), others with M / (N + 1)."""
    uniform = sum(torch.bincount(kept(filled(1, 4, seed)), minlength=4) for seed in range(4000))
    assert stats.chisquare(uniform.numpy()).pvalue > 0.001
    counts = sum(torch.bincount(kept(filled(1, 4, seed, published=True)), minlength=4) for seed in range(4000))
    assert stats.chisquare(counts.numpy(), [4000 * 2 / 5, *[4000 / 5] * 3]).pvalue > 0.001
    assert stats.chisquare(counts.numpy()).pvalue < 1e-6  # and not uniform


@pytest.mark.parametrize("replacement", [True, False])
def test_draws_are_uniform(replacement: bool) -> None:
    memory = Reservoir(8, replacement=replacement)
    memory.push(torch.zeros(8, 1), torch.arange(8))
    draws = [memory.joined(torch.zeros(1, 1), torch.tensor([9]), 3)[1][:3] for _ in range(2000)]
    repeated = sum(len(d.unique()) < 3 for d in draws)
    assert repeated == 0 if not replacement else 600 < repeated < 770  # 1 − 8·7·6 / 8³ = 0.34
    assert stats.chisquare(torch.bincount(torch.cat(draws), minlength=8).numpy()).pvalue > 0.001


@settings(max_examples=40, deadline=None)
@given(capacity=st.integers(0, 12), n=st.integers(0, 40), piece=st.integers(1, 15), wanted=st.integers(0, 15))
def test_it_holds_what_was_pushed(capacity: int, n: int, piece: int, wanted: int) -> None:
    memory = filled(capacity, n, 3, piece)
    assert len(memory) == min(capacity, n)
    images, labels = memory.joined(torch.full((2, 1), -1.0, dtype=torch.float64), torch.tensor([-1, -1]), wanted)
    assert labels[-2:].tolist() == [-1, -1]
    assert len(labels) == min(wanted, capacity, n) + 2
    assert torch.equal(images.squeeze(1), labels.double())  # images and labels stay together
    if len(memory):
        assert len(kept(memory).unique()) == len(memory)
    if n <= capacity and n:
        assert kept(memory).tolist() == list(range(n))  # a memory larger than the stream keeps all of it


def test_pieces_do_not_matter() -> None:
    assert torch.equal(kept(filled(10, 95, 5, piece=7)), kept(filled(10, 95, 5, piece=95)))


def test_what_is_pushed_is_copied() -> None:
    memory, images = Reservoir(4), torch.ones(2, 3)
    memory.push(images, torch.tensor([0, 1]))
    images.zero_()
    assert memory.joined(torch.zeros(1, 3), torch.tensor([5]), 1)[0][0].sum() == 3


def test_it_goes_on_from_a_saved_state() -> None:
    one = filled(10, 40, 7)
    other = Reservoir(10, seed=99)
    other.load_state_dict(one.state_dict())
    for memory in (one, other):
        memory.push(torch.arange(40.0, 80.0, dtype=torch.float64).view(-1, 1), torch.arange(40, 80))
    assert torch.equal(kept(one), kept(other))
    b = torch.zeros(1, 1, dtype=torch.float64), torch.tensor([0])
    assert torch.equal(one.joined(*b, 5)[1], other.joined(*b, 5)[1])


def test_mistakes() -> None:
    for wrong in (-1, 2.5, True):
        with pytest.raises(ValueError, match=f"capacity is {wrong}; a whole number of images from 0 on"):
            Reservoir(wrong)  # type: ignore[arg-type]
    memory = filled(10, 40, 7)
    with pytest.raises(ValueError, match=r"images have shape \(2,\); the memory holds images of shape \(1,\)"):
        memory.push(torch.zeros(1, 2), torch.tensor([0]))
    with pytest.raises(ValueError, match="a memory of capacity 5 holds another number"):
        Reservoir(5).load_state_dict(memory.state_dict())
