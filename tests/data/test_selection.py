"""Which images are chosen, and which labels they get."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lookbehind.data.selection import arranged, chosen, redrawn

ARGUMENTS = {"default": None, "train": None, "validation": None, "test": None, "stratified": False, "seed": 0}


def choose(labels: torch.Tensor, official: torch.Tensor | None, **changes: object) -> tuple[torch.Tensor, ...]:
    settings_ = ARGUMENTS | changes
    return chosen(labels, official, **settings_, generator=torch.Generator().manual_seed(settings_["seed"]))


class_sizes = st.lists(st.integers(1, 30), min_size=1, max_size=6)


@settings(max_examples=100, deadline=None)
@given(sizes=class_sizes, seed=st.integers(0, 99))
def test_a_stratified_order_has_each_class_in_proportion_from_both_ends(sizes: list[int], seed: int) -> None:
    labels = torch.repeat_interleave(torch.tensor(sizes))
    order = arranged(labels, True, torch.Generator().manual_seed(seed))
    assert sorted(order.tolist()) == list(range(len(labels)))
    for length in range(len(labels) + 1):
        for taken in (order[:length], order[len(labels) - length :]):
            counts = labels[taken].bincount(minlength=len(sizes))
            for count, size in zip(counts.tolist(), sizes, strict=True):
                share = size / len(labels)
                assert abs(count - length * share) <= 0.5 + share * len(sizes) / 2 + 1e-9  # 1 if classes are equal


def test_equal_classes_are_equally_frequent() -> None:
    labels = torch.arange(10).repeat(50)
    train, validation, _ = choose(labels, labels, stratified=True, validation=100, train=200)
    assert labels[train].bincount().tolist() == [20] * 10
    assert labels[validation].bincount().tolist() == [10] * 10


@pytest.mark.parametrize("stratified", [False, True])
def test_each_image_is_chosen_as_often(stratified: bool) -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    counts = torch.zeros(8)
    for seed in range(2000):
        counts[arranged(labels, stratified, torch.Generator().manual_seed(seed))[:2]] += 1
    assert ((counts - 500) ** 2 / 500).sum() < 24.4  # chi-square with 7 degrees of freedom at 0.001


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_parts_are_apart_and_stay(data: st.DataObject) -> None:
    n = data.draw(st.integers(4, 60))
    labels = torch.arange(n) % 3
    validation = data.draw(st.integers(0, n - 2))
    fewer = data.draw(st.integers(1, n - validation - 1))
    seed, stratified = data.draw(st.integers(0, 9)), data.draw(st.booleans())
    common = {"validation": validation, "seed": seed, "stratified": stratified}
    full = choose(labels, labels[:9], **common)
    part = choose(labels, labels[:9], train=fewer, **common)
    assert (len(full[0]), len(full[1]), len(full[2])) == (n - validation, validation, min(9, n))
    assert sorted(full[0].tolist() + full[1].tolist()) == list(range(n))
    assert torch.equal(part[0], full[0][:fewer])  # nested
    assert torch.equal(part[1], full[1])  # held out alike
    other = choose(labels, labels[:9], **common | {"seed": seed + 1})
    assert n < 20 or not torch.equal(other[0], full[0])


def test_defaults() -> None:
    labels = torch.zeros(100, dtype=torch.int64)
    assert [len(p) for p in choose(labels, labels[:20])] == [90, 10, 20]
    assert [len(p) for p in choose(labels, labels[:20], test=5, validation=0)] == [100, 0, 5]
    assert [len(p) for p in choose(labels, None, default=60)] == [60, 20, 20]
    assert [len(p) for p in choose(labels, None, train=61)] == [61, 19, 20]
    assert [len(p) for p in choose(labels, None, train=60, validation=0, test=7)] == [60, 0, 7]
    train, validation, test = choose(labels, None, default=60)
    assert sorted(torch.cat([train, validation, test]).tolist()) == list(range(100))


def test_test_images_are_a_seeded_subset_in_their_own_order() -> None:
    labels = torch.arange(10).repeat(10)
    five, ten = (choose(labels, labels, test=n, seed=3)[2].tolist() for n in (5, 10))
    assert set(five) < set(ten)
    assert ten == sorted(ten)
    assert ten != choose(labels, labels, test=10, seed=4)[2].tolist()
    assert labels[choose(labels, labels, test=20, stratified=True)[2]].bincount().tolist() == [2] * 10
    assert choose(labels, labels)[2].tolist() == list(range(100))


@pytest.mark.parametrize(
    ("arguments", "official", "sentence"),
    [
        ({"train": 0}, True, "train is 0; a whole number from 1 to 90 is needed"),
        ({"train": 91}, True, "train is 91; a whole number from 1 to 90"),
        ({"train": 61, "validation": 40}, True, "train is 61; a whole number from 1 to 60"),
        ({"validation": 100}, True, "validation is 100; a whole number from 0 to 99"),
        ({"validation": -1}, True, "validation is -1"),
        ({"validation": 0.1}, True, "validation is 0.1; a whole number"),
        ({"train": True}, True, "train is True; a whole number"),
        ({"test": 21}, True, "test is 21; a whole number from 1 to 20"),
        ({"train": 99}, False, "train is 99; a whole number from 1 to 98"),
        ({"train": 60, "validation": 40}, False, "validation is 40; a whole number from 0 to 39"),
        ({"train": 60, "test": 21}, False, "test is 21; a whole number from 1 to 20"),
    ],
)
def test_mistakes(arguments: dict[str, object], official: bool, sentence: str) -> None:
    labels = torch.zeros(100, dtype=torch.int64)
    with pytest.raises(ValueError, match=sentence):
        choose(labels, labels[:20] if official else None, **arguments)


@pytest.mark.parametrize("noise", [0.0, 0.2, 0.8, 1.0])
@pytest.mark.parametrize("classes", [2, 10, 100])
def test_noise_is_uniform_over_all_classes(noise: float, classes: int) -> None:
    n = 100_000
    labels = torch.full((n,), 1)
    noisy = redrawn(labels, noise, classes, torch.Generator().manual_seed(0))
    counts = noisy.bincount(minlength=classes)
    expected = torch.full((classes,), noise * n / classes)
    expected[1] += (1 - noise) * n
    if noise == 0:
        assert torch.equal(noisy, labels)
    else:
        assert ((counts - expected) ** 2 / expected).sum() < classes + 5 * (2 * classes) ** 0.5
    assert torch.equal(labels, torch.full((n,), 1))


def test_noise_takes_exactly_its_fraction() -> None:
    # With as many classes as this, hardly a label is drawn right by chance.
    changed = redrawn(torch.zeros(1000, dtype=torch.int64), 0.37, 1 << 40, torch.Generator().manual_seed(1)) != 0
    assert changed.sum() == 370
    assert 0.2 < changed[:500].float().mean() < 0.55  # anywhere
