"""The range finder for ρ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lookbehind import Lookbehind
from lookbehind.data import load_digits
from lookbehind.measure import suggest_rho
from lookbehind.measure.rho import _conclude, _standard_errors
from lookbehind.models import ConvNet
from lookbehind.training import train

INPUTS = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
DATA = [(x, (x[:, 0] > 0).long()) for x in INPUTS.split(20)]


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4)


def small(model: nn.Module | None = None, **options: Any) -> Any:
    arguments = {"rhos": [0, 0.05, 0.1], "steps": 4} | options
    return suggest_rho(model or nn.Linear(2, 2), nn.functional.cross_entropy, DATA, DATA, sgd, **arguments)


@pytest.mark.parametrize("noise", [0.4, 0.0])
def test_on_digits_it_agrees_with_the_full_grid(noise: float) -> None:
    """The full grid (docs/suggest-rho.md): with noisy labels ρ of 0.2 to 0.4 is best, with clean ones any up to 0.8."""
    digits = load_digits(0, noise=noise)
    torch.manual_seed(0)
    model = ConvNet()
    train(model, sgd(model.parameters()), digits.train_images, digits.train_labels, epochs=12)
    data = DataLoader(TensorDataset(digits.train_images, digits.train_labels), 64)
    validation = [(digits.validation_images, digits.validation_labels)]
    found = suggest_rho(model, nn.functional.cross_entropy, data, validation, sgd)
    assert found.tells is (noise > 0)
    if found.rho is not None:
        assert 0.1 <= found.rho <= 0.8
        assert found.scores[found.rhos.index(0.4)] > found.scores[0] + 2
    else:
        assert "cannot tell" in found.conclusion


def scores(means: list[float], spread: float = 0.0, examples: int = 100) -> tuple[tuple[float, ...], dict]:
    generator = torch.Generator().manual_seed(0)
    rhos = (0.0, *(0.1 * 2**i for i in range(len(means) - 1)))
    noise = spread * torch.randn(len(means), 2, examples, generator=generator, dtype=torch.float64)
    return rhos, {rho: mean + noise[i] for i, (rho, mean) in enumerate(zip(rhos, means, strict=True))}


@pytest.mark.parametrize(
    ("means", "spread", "low", "high", "rho", "tells", "at_edge"),
    [
        ([80, 90, 95, 90, 50], 0.0, 0.2, 0.2, 0.2, True, False),  # no noise: a peak is a peak
        ([80, 95, 95, 95, 50], 1e-9, 0.1, 0.4, 0.2, True, False),  # a plateau: its middle
        ([80, 85, 90, 92, 95], 0.0, 0.8, 0.8, 0.8, True, True),  # the grid ends too early
        ([95, 95, 95, 80, 50], 20.0, 0.0, 0.2, None, False, False),  # ρ = 0 is as good
        ([80, 95, 60, 95, 50], 0.0, 0.1, 0.1, 0.1, True, False),  # the range does not jump over a valley
    ],
)
def test_conclusions(means, spread, low, high, rho, tells, at_edge) -> None:
    found = _conclude(*scores(means, spread), steps=1, gradients=1)
    assert (found.tells, found.at_edge) == (tells, at_edge)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.rho == (rho and pytest.approx(rho))
    assert ("cannot tell" in found.conclusion) is not tells
    assert ("is best" in found.conclusion) is (low == high)
    assert ("were not tried" in found.conclusion) is at_edge


def test_standard_errors_against_numpy() -> None:
    differences = torch.randn(5, 3, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    differences[2] = 0.0  # the best, against itself
    differences[4] *= 10  # now good, now bad: its spread is not the others'
    d = differences.numpy()
    spread = sorted(np.var(d[i].mean(1), ddof=1) for i in (0, 1, 3, 4))[1]  # of four the lower median, as torch's
    expected = [np.sqrt(np.var(x.mean(0), ddof=1) / 50 + spread / 3) if i != 2 else 0.0 for i, x in enumerate(d)]
    assert _standard_errors(list(differences), 2) == pytest.approx(expected)
    alone = [np.sqrt(np.var(x[0], ddof=1) / 50) for x in d]
    assert _standard_errors([x[:1] for x in differences], 2) == pytest.approx(alone)


def test_model_and_random_state_stay_and_the_seed_decides() -> None:
    model = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 2))
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    a, b, c = small(model), small(model), small(model, seed=1)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert a == b
    assert a.to_dict() != c.to_dict()


def test_costs_and_other_optimizers_and_scores() -> None:
    assert small().gradients == 2 * 4 * (1 + 2 + 2)
    found = small(
        optimizer=lambda base, rho: Lookbehind(base, rho, k=3),
        score=lambda outputs, targets: -nn.functional.cross_entropy(outputs, targets, reduction="none"),
        repeats=1,
    )
    assert found.gradients == 4 * (1 + 4 + 4)
    assert all(s < 0 for s in found.scores)
    axes = found.plot()
    assert axes.get_title() == found.conclusion


def test_a_diverged_rho_is_out() -> None:
    """Weights that are not finite give no class, rather than the first."""
    found = small(rhos=[0, 0.1, 3e38])
    assert found.scores[-1] == 0
    assert found.high == 0.1
    found = small(rhos=[0, 0.1, 3e38], score=lambda outputs, _: outputs[:, 0] * 0)
    assert found.high == 0.1


def test_mistakes() -> None:
    for rhos in ([0.1, 0.2, 0.3], [0, 0.1], [0, 0.2, 0.1]):
        with pytest.raises(ValueError, match="at least three increasing values from 0"):
            small(rhos=rhos)
    with pytest.raises(ValueError, match="rho is -1"):
        small(rhos=[0, -1, 2])
    with pytest.raises(ValueError, match="steps is 0"):
        small(steps=0)
    loss = nn.functional.cross_entropy
    with pytest.raises(ValueError, match="validation_minibatches is empty"):
        suggest_rho(nn.Linear(2, 2), loss, DATA, [], sgd)
    with pytest.raises(ValueError, match="train_minibatches is empty, or an iterator"):
        suggest_rho(nn.Linear(2, 2), loss, iter(DATA), DATA, sgd)
