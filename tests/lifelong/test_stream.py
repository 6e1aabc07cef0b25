"""Streams: every image in its task, heads of their own, and clear errors for what cannot be a stream."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lookbehind.data import CropAndFlip, DataError, Part, load
from lookbehind.data.memory import InMemory
from lookbehind.data.registry import DATASETS
from lookbehind.lifelong import multihead_loss, own_head, split, task_accuracy
from lookbehind.lifelong.brightness import Brightness
from tests.data.formats import cifar100, write_archive


def digits(**arguments: Any) -> Any:
    return load("digits", stratified=True, **arguments)


def test_every_image_is_in_the_task_of_its_class() -> None:
    data = digits(seed=3)
    stream = split(data, tasks=5, ways=2, seed=4)
    assert (len(stream.tasks), stream.ways, stream.classes) == (5, 2, 10)
    assert sorted(c for task in stream.tasks for c in task.classes) == list(range(10))
    for name in ("train", "validation", "test"):
        whole: Part = getattr(data, name)
        known = {tuple(x.flatten().tolist()): int(y) for x, y in zip(whole.pixels.images, whole.labels, strict=True)}
        images = 0
        for t, task in enumerate(stream.tasks):
            part: Part = getattr(task, name)
            for x, y in zip(part.pixels.images, part.labels.tolist(), strict=True):
                assert y // 2 == t
                assert task.classes[y % 2] == known[tuple(x.flatten().tolist())]
            images += len(part)
        assert images == len(whole)


def test_the_seed_decides_the_order_of_classes_alone() -> None:
    data = digits()
    orders = [[task.classes for task in split(data, 5, 2, seed=seed).tasks] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_a_tenth_of_each_class_is_held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Split-CIFAR100 of files in the published format: 20 tasks of 5 classes."""
    monkeypatch.setitem(DATASETS, "cifar100", replace(DATASETS["cifar100"], files=()))
    write_archive(tmp_path / "cifar100" / "cifar-100-python.tar.gz", cifar100(n=1000))
    data = load("cifar100", tmp_path, stratified=True, seed=2)
    stream = split(data, tasks=20, ways=5, seed=2)
    for task in stream.tasks:
        assert task.train.labels.bincount()[-5:].tolist() == [9] * 5
        assert task.validation.labels.bincount()[-5:].tolist() == [1] * 5
        assert task.test.labels.bincount()[-5:].tolist() == [10] * 5
    assert stream.tasks[0].train.pixels.augmentation == CropAndFlip(padding=4)


def test_classes_may_be_left_over() -> None:
    stream = split(digits(), tasks=2, ways=3)
    assert stream.classes == 6
    assert stream.tasks[1].test.labels.unique().tolist() == [3, 4, 5]


def without(data: Any, part: str, classes: list[int]) -> Any:
    whole = getattr(data, part)
    index = torch.tensor([i for i, y in enumerate(whole.labels.tolist()) if y not in classes], dtype=torch.int64)
    return replace(data, **{part: Part(whole.pixels[index], whole.labels[index], whole.normalisation)})


def test_what_cannot_be_a_stream() -> None:
    data = digits()
    with pytest.raises(ValueError, match="tasks is 6 and ways 2: 12 classes are needed and there are 10"):
        split(data, 6, 2)
    with pytest.raises(ValueError, match="ways is 0"):
        split(data, 2, 0)
    with pytest.raises(TypeError, match=r"tasks is 2\.0"):
        split(data, 2.0, 2)  # type: ignore[arg-type]
    order = [c for task in split(data, 5, 2).tasks for c in task.classes]
    with pytest.raises(ValueError, match=f"class '{order[3]}' of task 1 has no training images"):
        split(without(data, "train", [order[3]]), 5, 2)
    with pytest.raises(ValueError, match="of task 2 has no training images"):  # an empty task
        split(without(data, "train", order[4:6]), 5, 2)
    with pytest.raises(ValueError, match="task 4 has no test images"):
        split(without(data, "test", order[8:]), 5, 2)
    with pytest.raises(ValueError, match="task 0 has no validation images"):
        split(without(data, "validation", order[:2]), 5, 2)
    assert len(split(digits(validation=0), 5, 2).tasks[0].validation) == 0  # nothing held out at all
    assert split(without(data, "test", [order[3]]), 5, 2)  # half a task can be tested


def test_own_head() -> None:
    logits = torch.arange(24.0).view(4, 6)
    assert own_head(logits, torch.tensor([0, 2, 1, 2]), 2).tolist() == [[0, 1], [10, 11], [14, 15], [22, 23]]
    with pytest.raises(ValueError, match=r"logits have shape \(4, 6\); \(n, tasks × ways\) with ways = 4 is needed"):
        own_head(logits, torch.tensor([0, 0, 0, 0]), 4)


def test_the_loss_is_over_the_own_head_only() -> None:
    """Against logits that are −∞ in all other heads, which is how the code of Gupta et al. masks."""
    torch.manual_seed(0)
    logits, labels = torch.randn(7, 12, dtype=torch.float64, requires_grad=True), torch.tensor([0, 11, 5, 4, 3, 8, 2])
    masked = torch.full_like(logits, -1e11)
    for i, label in enumerate(labels.tolist()):
        own = slice(label // 4 * 4, label // 4 * 4 + 4)
        masked[i, own] = logits[i, own]
    expected = nn.functional.cross_entropy(masked, labels)
    loss = multihead_loss(logits, labels, 4)
    torch.testing.assert_close(loss, expected)
    ours, theirs = (torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (loss, expected))
    torch.testing.assert_close(ours, theirs)


def test_accuracy_of_a_task_needs_its_identity() -> None:
    class Fixed(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[9.0, 0.0, 1.0, 2.0]]).expand(len(images), 4)  # task 0: class 0; task 1: class 3

    model = Fixed()
    minibatches = [(torch.zeros(2, 1), torch.tensor([3, 2])), (torch.zeros(2, 1), torch.tensor([3, 3]))]
    assert task_accuracy(model, minibatches, task=1, ways=2) == 75.0
    assert model.training
    with pytest.raises(ValueError, match="task 1 has no images to be evaluated on"):
        task_accuracy(model, [], task=1, ways=2)


def test_brightness() -> None:
    images = torch.full((4000, 1, 2, 2), 200, dtype=torch.uint8)
    images[::2] = 50
    bright = Brightness(InMemory(images, None), 63 / 255)
    (plain,) = bright.batches([torch.arange(4000)], None, None)
    assert torch.equal(plain, images)
    chunks = torch.arange(4000).split(1500)
    shown = torch.cat(list(bright.batches(chunks, 7, None)))
    assert torch.equal(shown, torch.cat(list(bright.batches(torch.arange(4000).split(310), 7, None))))
    assert not torch.equal(shown, torch.cat(list(bright.batches(chunks, 8, None))))
    assert (shown == shown[:, :1, :1, :1]).all()  # one factor an image
    dark, light = shown[::2, 0, 0, 0].float(), shown[1::2, 0, 0, 0].float()
    assert (dark.min(), dark.max()) == pytest.approx((50 * (1 - 63 / 255), 50 * (1 + 63 / 255)), abs=1.5)
    assert light.max() <= 249
    assert dark.mean() == pytest.approx(49.5, abs=1)  # cut down to whole numbers
    white = Brightness(InMemory(torch.full((50, 1, 1, 1), 250, dtype=torch.uint8), None), 1.0)
    assert next(iter(white.batches([torch.arange(50)], 1, None))).max() == 255
    with pytest.raises(ValueError, match=r"strength is 1.5; at most 1"):
        Brightness(InMemory(images, None), 1.5)


def test_brightness_is_after_crop_and_flip_and_in_training_only() -> None:
    data = digits()
    stream = split(data, 5, 2, brightness=0.3)
    task = stream.tasks[0]
    assert isinstance(task.train.pixels, Brightness)
    assert len(task.train.pixels) == len(task.train)
    assert not isinstance(task.test.pixels, Brightness)
    x, y = next(iter(task.train.shuffled(8, seed=1)))
    plain, same = next(iter(split(data, 5, 2).tasks[0].train.shuffled(8, seed=1)))
    assert torch.equal(y, same)
    assert not torch.equal(x, plain)
    cropped = Brightness(InMemory(torch.full((6, 1, 4, 4), 100, dtype=torch.uint8), CropAndFlip(padding=2)), 0.5)
    (shown,) = cropped[torch.arange(6)].to(torch.device("cpu")).batches([torch.arange(6)], 3, None)
    values = [set(image.flatten().tolist()) for image in shown]
    assert all(len(v - {0}) == 1 for v in values)  # the padding stays black
    assert any(0 in v for v in values)
    assert np.unique([max(v) for v in values]).size > 1


def test_errors_of_data_pass_through() -> None:
    with pytest.raises(DataError, match="CIFAR-100 is missing"):
        load("cifar100", "/nonexistent", download=False)
