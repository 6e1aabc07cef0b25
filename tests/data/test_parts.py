"""Minibatches: each image once an epoch, normalised as usual, and resumed bit for bit."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lookbehind import checkpoint
from lookbehind.data import CropAndFlip, Normalisation, Part, Shuffled
from lookbehind.data.memory import InMemory
from lookbehind.data.parts import mixed_seed

NORMALISATION = Normalisation((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))


def part(n: int = 23, augmentation: CropAndFlip | None = CropAndFlip(padding=1)) -> Part:  # noqa: B008
    images = torch.randint(0, 256, (n, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Part(InMemory(images, augmentation), torch.arange(n), NORMALISATION)


def same(a: list[tuple[Tensor, Tensor]], b: list[tuple[Tensor, Tensor]]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x, y) for p, q in zip(a, b, strict=True) for x, y in zip(p, q, strict=True)
    )


def test_normalisation_is_the_usual_one() -> None:
    pixels = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8)
    result = NORMALISATION(pixels)
    assert result.dtype == torch.float32
    for c, (mean, std) in enumerate([(0.5, 0.1), (0.4, 0.2), (0.3, 0.3)]):
        expected = (pixels[:, c].double() / 255 - mean) / std
        torch.testing.assert_close(result[:, c].double(), expected, rtol=1e-6, atol=1e-6)
    floats = torch.ones(1, 3, 1, 1)
    NORMALISATION(floats)
    assert torch.equal(floats, torch.ones(1, 3, 1, 1))


def test_in_order() -> None:
    whole = part()
    batches = whole.minibatches(10)
    first = list(batches)
    assert [len(labels) for _, labels in first] == [10, 10, 3]
    assert len(batches) == 3
    assert torch.equal(torch.cat([labels for _, labels in first]), torch.arange(23))
    assert torch.equal(torch.cat([images for images, _ in first]), NORMALISATION(whole.pixels.images))
    next(iter(batches))  # a pass that is given up does not move the next
    assert same(first, list(batches))
    images, labels = whole.tensors()
    assert torch.equal(images, NORMALISATION(whole.pixels.images))
    assert torch.equal(labels, whole.labels)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 40), batch=st.integers(1, 50), drop_last=st.booleans(), seed=st.integers(0, 9))
def test_each_image_once_an_epoch(n: int, batch: int, drop_last: bool, seed: int) -> None:
    if drop_last and batch > n:
        with pytest.raises(ValueError, match=f"batch is {batch}, more than the {n} images"):
            part(n).shuffled(batch, drop_last=True)
        return
    batches = part(n, augmentation=None).shuffled(batch, seed=seed, drop_last=drop_last)
    for epoch in range(3):
        assert (batches.epoch, batches.position) == (epoch, 0)
        sizes, seen = [], []
        for images, labels in batches:
            assert torch.equal(images, NORMALISATION(part(n).pixels.images[labels]))
            sizes.append(len(labels))
            seen += labels.tolist()
        assert len(sizes) == len(batches)
        assert len(set(seen)) == len(seen)
        if drop_last:
            assert set(sizes) == {batch}
            assert n - len(seen) < batch
        else:
            assert sorted(seen) == list(range(n))
            assert all(size == batch for size in sizes[:-1])


def test_the_order_is_another_in_each_epoch_and_for_each_seed() -> None:
    orders = []
    for seed in (0, 1):
        batches = part(40, augmentation=None).shuffled(40, seed=seed)
        orders += [tuple(labels.tolist()) for _ in (0, 1) for _, labels in batches]
    again = part(40, augmentation=None).shuffled(40, seed=0)
    assert tuple(next(iter(again))[1].tolist()) == orders[0]
    assert len(set(orders)) == 4
    assert tuple(range(40)) not in orders


def test_the_order_is_uniform() -> None:
    # Each of the 6 orders of three images about equally often.
    batches = part(3, augmentation=None).shuffled(3)
    seen = [tuple(labels.tolist()) for _ in range(1200) for _, labels in batches]
    counts = [seen.count(order) for order in itertools.permutations(range(3))]
    assert sum((c - 200) ** 2 / 200 for c in counts) < 20.5  # chi-square with 5 degrees of freedom at 0.001


def test_augment() -> None:
    def images(augment: bool) -> Tensor:
        ((shown, labels),) = part().shuffled(23, augment=augment)
        return shown[labels.argsort()]

    plain = NORMALISATION(part().pixels.images)
    assert torch.equal(images(False), plain)
    assert not torch.equal(images(True), plain)
    batches = part().shuffled(23)
    epochs = [shown[labels.argsort()] for _ in (0, 1) for shown, labels in batches]
    assert not torch.equal(*epochs)  # drawn anew in each epoch


def collected(batches: Shuffled, number: int) -> list[tuple[Tensor, Tensor]]:
    endless = itertools.chain.from_iterable(itertools.repeat(batches))
    return list(itertools.islice(endless, number))


@settings(max_examples=40, deadline=None)
@given(stop=st.integers(0, 17), drop_last=st.booleans(), augment=st.booleans())
def test_resumed_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, stop: int, drop_last: bool, augment: bool
) -> None:
    def fresh() -> Shuffled:
        return part().shuffled(5, seed=4, drop_last=drop_last, augment=augment)

    undisturbed = collected(fresh(), 20)
    before = fresh()
    head = collected(before, stop)
    path = tmp_path_factory.mktemp("state") / "last.pt"
    checkpoint.save(path, before.state_dict())
    after = fresh()
    after.load_state_dict(checkpoint.load(path))
    assert same(undisturbed, head + collected(after, 20 - stop))


def test_the_state_inside_a_pass_names_the_next_minibatch() -> None:
    batches, seen = part().shuffled(5), []
    for _ in batches:
        seen.append((batches.epoch, batches.position))
    assert seen == [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5)]
    assert (batches.epoch, batches.position) == (1, 0)
    # Saved after the last minibatch of an epoch: what is left of it is nothing, and then comes the next.
    again = part().shuffled(5)
    again.load_state_dict(batches.state_dict() | {"epoch": 0, "position": 5})
    assert list(again) == []
    assert (again.epoch, again.position) == (1, 0)
    assert same(list(again), list(batches))


def test_the_state_is_plain() -> None:
    state = part().shuffled(5, seed=3).state_dict()
    assert json.loads(json.dumps(state)) == state


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("batch", {"batch": 6}),
        ("seed", {"seed": 1}),
        ("augment", {"augment": False}),
        ("drop_last", {"drop_last": True}),
    ],
)
def test_a_state_of_other_settings(name: str, other: dict[str, int]) -> None:
    state = part().shuffled(**({"batch": 5} | other)).state_dict()
    with pytest.raises(ValueError, match=f"{name} is .* but was .* when the state was saved"):
        part().shuffled(5).load_state_dict(state)
    with pytest.raises(ValueError, match="images is 22 but was 23"):
        part(22).shuffled(5).load_state_dict(part().shuffled(5).state_dict())


@pytest.mark.parametrize("batch", [0, -1, 2.0, "3"])
def test_mistakes(batch: int) -> None:
    with pytest.raises(ValueError, match=f"batch is {batch}; a whole number"):
        part().minibatches(batch)
    with pytest.raises(ValueError, match=f"batch is {batch}; a whole number"):
        part().shuffled(batch)


def test_an_empty_part() -> None:
    assert list(part(0).minibatches(5)) == []
    assert len(part(0).minibatches(5)) == 0
    with pytest.raises(ValueError, match="no images in this part"):
        part(0).shuffled(5)


def test_minibatches_are_where_the_part_is() -> None:
    moved = part().to("meta")
    for images, labels in (next(iter(moved.minibatches(5))), next(iter(moved.shuffled(5)))):
        assert (images.device.type, labels.device.type) == ("meta", "meta")


def test_seeds_of_different_purposes_differ() -> None:
    seeds = {
        mixed_seed(seed, what, epoch) for seed in range(20) for what in ("order", "augmentation") for epoch in range(20)
    }
    assert len(seeds) == 800
    assert mixed_seed(1, "order", 23) == mixed_seed(1, "order", 23)
    torch.Generator().manual_seed(max(seeds))


def test_seeds_are_the_same_in_every_process() -> None:
    # Computed once and written down: a run that is resumed elsewhere must go on as it would have here.
    assert mixed_seed(0, "order", 0) == 68_455_831_329_968_114
