"""The digits and the conv net of the comparison."""

from __future__ import annotations

import pytest
import torch
from sklearn import datasets

from lookbehind.data import load_digits
from lookbehind.models import ConvNet


def test_every_digit_is_in_one_part_and_labels_are_true() -> None:
    digits = load_digits(seed=3)
    parts = [digits.train_images, digits.validation_images, digits.test_images]
    assert [len(p) for p in parts] == [1000, 398, 399]
    source = datasets.load_digits()
    labels = torch.cat([digits.train_labels, digits.validation_labels, digits.test_labels])
    seen = torch.cat(parts).flatten(1)
    original = torch.tensor(source.images, dtype=torch.float32).flatten(1)
    # Undo the normalisation, which is affine: the image with the largest sum has the largest value everywhere.
    scale = original.max() / (seen.max() - seen.min())
    restored = ((seen - seen.min()) * scale).round().to(torch.int64)
    rows = {(*image, label) for image, label in zip(map(tuple, restored.tolist()), labels.tolist(), strict=True)}
    expected = {
        (*image, label)
        for image, label in zip(map(tuple, original.to(torch.int64).tolist()), source.target, strict=True)
    }
    assert rows == expected
    assert digits.train_images.mean().abs() < 1e-5
    assert digits.train_images.std().item() == pytest.approx(1.0, abs=1e-5)


def test_noise_redraws_uniformly_and_leaves_the_rest() -> None:
    clean, noisy = load_digits(seed=1), load_digits(seed=1, noise=0.4)
    assert torch.equal(clean.train_images, noisy.train_images)
    assert torch.equal(clean.train_labels, noisy.clean_labels)
    assert torch.equal(clean.test_labels, noisy.test_labels)
    wrong = [
        (d.train_labels != d.clean_labels).float().mean().item() for d in (load_digits(s, noise=0.4) for s in range(20))
    ]
    assert sum(wrong) / 20 == pytest.approx(0.36, abs=0.01)  # one redrawn label in ten is right by chance
    assert load_digits(seed=1, noise=1.0).train_labels.bincount(minlength=10).min() > 60


def test_the_seed_decides() -> None:
    a, b, c = load_digits(1, noise=0.4), load_digits(1, noise=0.4), load_digits(2, noise=0.4)
    assert torch.equal(a.train_labels, b.train_labels)
    assert not torch.equal(a.train_images, c.train_images)


@pytest.mark.parametrize("arguments", [{"train": 0}, {"train": 1796}, {"noise": 1.5}, {"noise": -0.1}])
def test_mistakes(arguments: dict[str, float]) -> None:
    name, value = next(iter(arguments.items()))
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        load_digits(**arguments)


def test_conv_net() -> None:
    net = ConvNet()
    assert sum(p.numel() for p in net.parameters()) == 24_058
    for size in (2, 8, 28):
        assert net(torch.zeros(3, 1, size, size)).shape == (3, 10)
    assert ConvNet(channels=3, classes=5)(torch.zeros(1, 3, 8, 8)).shape == (1, 5)
