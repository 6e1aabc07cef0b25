"""Accuracy with noisy weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lookbehind.measure import noisy_accuracy

DATA = [(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 2)]


class Recorder(nn.Module):
    """Remembers its weights at each evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        nn.init.constant_(self.linear.weight, 2.0)
        nn.init.constant_(self.linear.bias, -1.0)
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(torch.cat([p.detach().flatten() for p in self.parameters()]))
        return self.linear(x)


def test_noise_is_relative_with_mean_1_and_deviation_sigma() -> None:
    model = Recorder()
    noisy_accuracy(model, DATA, DATA, [0.3], draws=4000)
    factors = torch.stack(model.seen) / torch.tensor([2.0] * 6 + [-1.0] * 2)
    assert factors.mean().item() == pytest.approx(1.0, abs=0.01)
    assert factors.std().item() == pytest.approx(0.3, rel=0.02)
    assert torch.corrcoef(factors.T).fill_diagonal_(0).abs().max() < 0.07  # each parameter its own


def test_weights_only_spares_biases() -> None:
    model = Recorder()
    noisy_accuracy(model, DATA, DATA, [0.3], draws=3, weights_only=True)
    assert all((w[6:] == -1).all() and (w[:6] != 2).all() for w in model.seen)


def test_no_noise_is_plain_accuracy_and_the_seed_decides() -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    assert noisy_accuracy(model, DATA, DATA, [0.0], draws=3).stds == (0.0,)
    a, b, c = (noisy_accuracy(model, DATA, DATA, [0.5], draws=5, seed=s).accuracies for s in (1, 1, 2))
    assert a == b != c
    result = noisy_accuracy(model, DATA, DATA, [0.5], draws=5)
    assert result.means[0] == pytest.approx(sum(result.accuracies[0]) / 5)
    assert result.to_dict()["sigmas"] == (0.5,)


def test_a_grid_equals_its_points_one_by_one_and_is_drawn() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    grid = noisy_accuracy(model, DATA, DATA, [0.0, 0.5, 2.0], draws=4)
    for sigma, accuracies in zip(grid.sigmas, grid.accuracies, strict=True):
        assert noisy_accuracy(model, DATA, DATA, [sigma], draws=4).accuracies == (accuracies,)
    line = grid.plot().lines[0]
    assert line.get_xydata().tolist() == [list(pair) for pair in zip(grid.sigmas, grid.means, strict=True)]


def test_batch_norm_is_estimated_anew() -> None:
    """Running statistics of another distribution do not matter: they are replaced by those of the noisy model."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(3, affine=False), nn.Linear(3, 2))
    good = noisy_accuracy(model, DATA, DATA, [0.2], draws=5).accuracies
    model[0].running_mean.fill_(100.0)
    assert noisy_accuracy(model, DATA, DATA, [0.2], draws=5).accuracies == good


def test_the_model_comes_back_untouched_also_when_something_raises() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    noisy_accuracy(model, DATA, DATA, [0.5], draws=2)
    with pytest.raises(RuntimeError):
        noisy_accuracy(model, DATA, [(torch.zeros(1, 4), torch.zeros(1))], [0.5])
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.training
    assert model[0].momentum == 0.1


def test_batch_norm_keeps_its_momentum_when_the_training_data_raise() -> None:
    """update_bn clears it first and does not put it back."""
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    with pytest.raises(RuntimeError):
        noisy_accuracy(model, [(torch.zeros(4, 7), torch.zeros(4))], DATA, [0.5])
    assert model[0].momentum == 0.1


@pytest.mark.parametrize("which", [0, 1])
def test_minibatches_that_run_out_are_refused(which: int) -> None:
    """A second draw would be measured with batch-norm statistics of no data at all."""
    for wrong, words in ((iter(DATA), "only once"), ([], "is empty")):
        pair = [DATA, DATA]
        pair[which] = wrong
        with pytest.raises(ValueError, match=words):
            noisy_accuracy(Recorder(), *pair, [0.1])


def test_mistakes() -> None:
    with pytest.raises(ValueError, match=r"sigma is -0\.1"):
        noisy_accuracy(Recorder(), DATA, DATA, [-0.1])
    with pytest.raises(ValueError, match="draws is 0"):
        noisy_accuracy(Recorder(), DATA, DATA, [0.1], draws=0)
