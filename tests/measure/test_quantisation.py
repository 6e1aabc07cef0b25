"""Quantised weights against a naive quantiser in NumPy, the error bound and exactness; accuracy by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lookbehind.measure.quantisation import quantise, quantised_accuracy

DATA = [(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 2)]


def naive(w: np.ndarray, bits: int, per_channel: bool) -> np.ndarray:
    """One number at a time: of all levels, the nearest; of two equally near, the even one."""
    if per_channel and w.ndim > 1:
        return np.stack([naive(channel.reshape(-1), bits, False).reshape(channel.shape) for channel in w])
    top = 2 ** (bits - 1) - 1
    largest = max((abs(float(x)) for x in w.flat), default=0.0)
    if largest == 0:
        return w.copy()
    step = largest / top
    rounded = []
    for x in w.flat:
        distances = [(abs(float(x) / step - level), level % 2, level) for level in range(-top, top + 1)]
        rounded.append(step * min(distances)[2])
    return np.array(rounded).reshape(w.shape)


weights = st.integers(0, 10_000).map(
    lambda seed: torch.randn(3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
)


@settings(max_examples=40, deadline=None)
@given(weights, st.integers(2, 8), st.booleans(), st.floats(-8, 8))
def test_against_the_naive_quantiser(w: Tensor, bits: int, per_channel: bool, exponent: float) -> None:
    w = w * 10**exponent
    w[1] *= 100  # channels of different sizes
    expected = naive(w.numpy(), bits, per_channel)
    np.testing.assert_allclose(quantise(w, bits, per_channel=per_channel).numpy(), expected, rtol=1e-12, atol=0)


@settings(max_examples=40, deadline=None)
@given(weights, st.integers(2, 16), st.booleans())
def test_no_weight_moves_by_more_than_half_a_step_and_levels_are_few(w: Tensor, bits: int, per_channel: bool) -> None:
    rounded = quantise(w, bits, per_channel=per_channel)
    groups = list(zip(w, rounded, strict=True)) if per_channel else [(w, rounded)]
    for before, after in groups:
        step = before.abs().max() / (2 ** (bits - 1) - 1)
        assert (after - before).abs().max() <= step / 2 * (1 + 1e-12)
        levels = after / step
        torch.testing.assert_close(levels, levels.round())
        assert levels.abs().max().item() == pytest.approx(2 ** (bits - 1) - 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weights_on_the_levels_stay(bits: int, dtype: torch.dtype) -> None:
    top = 2 ** (bits - 1) - 1
    w = (torch.arange(-top, top + 1) * 2.0**-5).to(dtype).repeat(2, 1)
    assert torch.equal(quantise(w, bits, per_channel=False), w)
    w[1] *= 4
    assert torch.equal(quantise(w, bits, per_channel=True), w)


def test_ties_go_to_the_even_level_and_zeros_stay_zero() -> None:
    w = torch.tensor([3.0, 0.5, 1.5, -2.5, 0.0])
    assert quantise(w, 3, per_channel=False).tolist() == [3.0, 0.0, 2.0, -2.0, 0.0]
    assert quantise(torch.zeros(2, 3), 4, per_channel=True).tolist() == [[0.0] * 3] * 2
    assert quantise(torch.tensor(-0.7), 4, per_channel=True).item() == pytest.approx(-0.7)


def test_rounding_again_changes_nothing_but_rounding() -> None:
    w = torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for per_channel in (False, True):
        once = quantise(w, 4, per_channel=per_channel)
        torch.testing.assert_close(quantise(once, 4, per_channel=per_channel), once, rtol=1e-14, atol=0)
        torch.testing.assert_close(quantise(-w, 4, per_channel=per_channel), -once, rtol=0, atol=0)


class Recorder(nn.Module):
    """Remembers its parameters at each evaluation."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 2)
        self.seen: list[list[np.ndarray]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append([p.detach().numpy().copy() for p in self.parameters()])
        return self.linear(x)


@pytest.mark.parametrize("weights_only", [True, False])
def test_which_parameters_are_rounded(weights_only: bool) -> None:
    model = Recorder()
    w, b = (p.detach().numpy().copy() for p in model.parameters())
    quantised_accuracy(model, DATA, [8, 3], weights_only=weights_only)
    assert len(model.seen) == 5
    settings_ = [(8, False), (8, True), (3, False), (3, True)]
    for seen, (bits, per_channel) in zip(model.seen[1:], settings_, strict=True):
        np.testing.assert_allclose(seen[0], naive(w, bits, per_channel), rtol=1e-6)
        np.testing.assert_allclose(seen[1], b if weights_only else naive(b, bits, False), rtol=1e-6)
    np.testing.assert_array_equal(model.seen[0][0], w)


def test_accuracies_by_hand() -> None:
    """0.2 beside 1.0 is lost at 2 bits per tensor (levels −1, 0, 1), and kept in a channel of its own."""
    model = nn.Linear(2, 2, bias=False)
    model.weight.data = torch.tensor([[1.0, 0.0], [0.0, 0.2]])
    data = [
        (torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])),
        (torch.tensor([[-1.0, 1.0]]), torch.tensor([1])),
    ]
    result = quantised_accuracy(model, data, [2, 8])
    assert result.accuracy == 100.0
    assert result.per_channel == (100.0, 100.0)
    assert result.per_tensor == (pytest.approx(200 / 3), 100.0)
    assert result.bits == (2, 8)
    assert result.gradients == 0


def test_batch_norm_is_estimated_anew_only_if_asked() -> None:
    """With training data, statistics of another distribution do not matter; without, they do."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(3, affine=False), nn.Linear(3, 2))
    model[0].running_mean.fill_(100.0)
    assert quantised_accuracy(model, DATA).accuracy == 50.0  # one class for all
    good = quantised_accuracy(model, DATA, train_minibatches=DATA)
    model[0].running_mean.fill_(-3.0)
    assert quantised_accuracy(model, DATA, train_minibatches=DATA) == good
    assert good.accuracy != 50.0
    assert good.reestimated


def test_statistics_are_those_of_the_rounded_weights() -> None:
    """A layer that rounding makes ten times smaller is scaled back by batch norm that sees it so."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2, bias=False)).double()
    model[0].weight.data = torch.tensor([[1.0, 0.4], [0.4, 1.0]]).double()  # 0.4 becomes 0 at 2 bits
    model[0].bias.data.zero_()
    model[2].weight.data = torch.eye(2).double()
    x = torch.randn(400, 2).double() * torch.tensor([1.0, 5.0]).double() + 3.0
    standard = (x - x.mean(0)) / x.std(0, correction=0)
    data = [(x, standard.argmax(1))]  # the labels of the rounded net, if its statistics are its own
    result = quantised_accuracy(model, data, [2], train_minibatches=data)
    assert result.per_tensor == (100.0,)
    assert result.accuracy < 100.0
    assert quantised_accuracy(model, data, [2]).per_tensor[0] < 100.0


class Boom(Exception):
    pass


@pytest.mark.parametrize("fail", [False, True])
def test_the_model_comes_back_untouched(fail: bool) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model[2].eval()
    model[0].weight.requires_grad_(False)
    model[0].bias.grad = torch.ones(4)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    calls = 0

    def hook(*_) -> None:
        nonlocal calls
        calls += 1
        if fail and calls == 4:
            raise Boom

    model.register_forward_hook(hook)
    if fail:
        with pytest.raises(Boom):
            quantised_accuracy(model, DATA, weights_only=False, train_minibatches=DATA)
    else:
        quantised_accuracy(model, DATA, weights_only=False, train_minibatches=DATA)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [m.training for m in model] == [True, True, False]
    assert model[1].momentum == 0.1
    assert not model[0].weight.requires_grad
    assert torch.equal(model[0].bias.grad, torch.ones(4))


def test_mistakes() -> None:
    for bits in (1, 17, 0):
        with pytest.raises(ValueError, match=f"bits is {bits}"):
            quantised_accuracy(Recorder(), DATA, [bits])
    with pytest.raises(TypeError, match=r"bits is 4\.5"):
        quantised_accuracy(Recorder(), DATA, [4.5])
    with pytest.raises(ValueError, match="minibatches is an iterator"):
        quantised_accuracy(Recorder(), iter(DATA))
    with pytest.raises(ValueError, match="train_minibatches is empty"):
        quantised_accuracy(Recorder(), DATA, train_minibatches=[])


def test_result_as_dict_and_picture() -> None:
    result = quantised_accuracy(Recorder(), DATA, [8, 2, 4])
    assert json.loads(json.dumps(result.to_dict()))["bits"] == [8, 2, 4]
    lines = result.plot().get_lines()
    assert lines[1].get_xdata().tolist() == [2, 4, 8]
    assert lines[1].get_ydata().tolist() == [result.per_channel[i] for i in (1, 2, 0)]
    assert set(lines[0].get_ydata()) == {result.accuracy}
