"""m-sharpness against closed forms and a naive loop; the model comes back untouched."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from lookbehind import Adaptive
from lookbehind.measure import hessian_trace, loss_slice, m_sharpness


class Point(nn.Module):
    """A model whose output is its parameter, so that a loss can be any function of it."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(value.double())

    def forward(self, _: Tensor) -> Tensor:
        return self.w


def quadratic(curvature: Tensor):
    return lambda w, _: 0.5 * (curvature * w**2).sum()


MINIBATCHES = [(torch.zeros(4), torch.zeros(4))]


def test_one_step_on_a_quadratic() -> None:
    """L(w + r g/‖g‖) − L(w) with g = a w, by hand."""
    a, w = torch.tensor([1.0, 4.0]).double(), torch.tensor([2.0, -1.0])
    g = a * w
    result = m_sharpness(Point(w), quadratic(a), MINIBATCHES, [0.0, 0.3, 2.0])
    for r, value in zip(result.radii, result.values, strict=True):
        moved = w + r * g / g.norm()
        expected = 0.5 * (a * moved**2).sum() - 0.5 * (a * w**2).sum()
        assert value == pytest.approx(expected.item(), rel=1e-6)
    assert (result.m, result.minibatches, result.steps) == (4, 1, 1)
    assert result.loss == pytest.approx(0.5 * (a * w**2).sum().item())


def test_one_step_of_asam_on_a_quadratic() -> None:
    """Eq. 8, with eq. 4's ascent."""
    a, w = torch.tensor([1.0, 4.0]).double(), torch.tensor([2.0, -1.0])
    g = a * w
    result = m_sharpness(Point(w), quadratic(a), MINIBATCHES, [0.5], perturbation=Adaptive(eta=0.0))
    moved = w + 0.5 * w**2 * g / (w * g).norm()
    assert result.values[0] == pytest.approx((0.5 * (a * moved**2).sum() - 0.5 * (a * w**2).sum()).item(), rel=1e-6)


@pytest.mark.parametrize("r", [0.1, 1.0, 3.0])
def test_many_steps_reach_the_maximum_in_the_ball(r: float) -> None:
    """Against a fine grid over the border of the ball, where a convex loss has its maximum."""
    a, w = torch.tensor([1.0, 4.0]).double(), torch.tensor([0.05, 0.02]).double()
    angles = torch.linspace(0, 2 * math.pi, 200_001, dtype=torch.float64)
    ring = w[:, None] + r * torch.stack([angles.cos(), angles.sin()])
    best = (0.5 * (a[:, None] * ring**2).sum(0)).max() - 0.5 * (a * w**2).sum()
    several = m_sharpness(Point(w), quadratic(a), MINIBATCHES, [r], steps=300).values[0]
    one = m_sharpness(Point(w), quadratic(a), MINIBATCHES, [r]).values[0]
    assert several == pytest.approx(best.item(), rel=1e-3)
    assert one < several


def test_many_steps_of_asam_stay_in_its_ball() -> None:
    """A linear loss has its maximum r ‖T g‖ on the border of ‖T⁻¹ ε‖ ≤ r; where w = 0 and η = 0 nothing moves."""
    w, slope = torch.tensor([2.0, -1.0, 0.0]), torch.tensor([1.0, 1.0, 5.0]).double()
    result = m_sharpness(
        Point(w), lambda p, _: (slope * p).sum(), MINIBATCHES, [0.5, 1.0], perturbation=Adaptive(eta=0.0), steps=7
    )
    length = (w * slope).norm().item()
    assert result.values == pytest.approx([0.5 * length, length], rel=1e-9)


def _net() -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 2)).double()
    minibatches = [(torch.randn(6, 3).double(), torch.randint(2, (6,))) for _ in range(3)]
    for x, _ in minibatches:
        net(x)  # running statistics that are not the initial ones
    return net, minibatches


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_against_a_naive_loop(mode: str) -> None:
    net, minibatches = _net()
    loss = nn.functional.cross_entropy
    result = m_sharpness(net, loss, minibatches, [0.1, 0.7], mode=mode)
    rises = []
    for x, y in minibatches:
        net.train(mode == "train")
        net.zero_grad()
        at = loss(net(x), y)
        at.backward()
        gradient = torch.cat([p.grad.flatten() for p in net.parameters()])
        vector = nn.utils.parameters_to_vector(net.parameters()).detach()
        row = []
        for r in (0.1, 0.7):
            nn.utils.vector_to_parameters(vector + r * gradient / gradient.norm(), net.parameters())
            row.append((loss(net(x), y) - at).item())
        nn.utils.vector_to_parameters(vector, net.parameters())
        rises.append(row)
    assert result.values == pytest.approx(torch.tensor(rises).double().mean(0).tolist(), rel=1e-5)


class Boom(Exception):
    pass


@pytest.mark.parametrize("fail", [False, True])
@pytest.mark.parametrize("steps", [1, 3])
def test_the_model_comes_back_untouched(fail: bool, steps: int) -> None:
    net, minibatches = _net()
    net[0].weight.requires_grad_(False)
    net[1].eval()
    net[3].bias.grad = torch.ones(2).double()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    where = [p.data_ptr() for p in net.parameters()]
    calls = 0

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if fail and calls == 4:
            raise Boom
        return nn.functional.cross_entropy(outputs, targets)

    if fail:
        with pytest.raises(Boom):
            m_sharpness(net, loss, minibatches, [0.1, 1.0], mode="train", steps=steps)
    else:
        m_sharpness(net, loss, minibatches, [0.1, 1.0], mode="train", steps=steps)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert [m.training for m in net] == [True, False, True, True]
    assert net.training
    assert [p.requires_grad for p in net.parameters()] == [False, True, True, True, True, True]
    assert torch.equal(net[3].bias.grad, torch.ones(2).double())
    assert net[3].weight.grad is None
    assert [p.data_ptr() for p in net.parameters()] == where


def test_gradients_and_evaluations_are_as_stated() -> None:
    net, minibatches = _net()
    calls = 0

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return nn.functional.cross_entropy(outputs, targets)

    m_sharpness(net, loss, minibatches, [0.1, 0.2, 0.3])
    assert calls == 3 * (1 + 3)
    calls = 0
    m_sharpness(net, loss, minibatches, [0.1, 0.2], steps=4)
    assert calls == 3 * (1 + 2 * (3 + 4))


@pytest.mark.parametrize(
    "measured",
    [
        lambda net, loss, minibatches: m_sharpness(net, loss, minibatches, [0.1]),
        lambda net, loss, minibatches: hessian_trace(net, loss, minibatches, draws=2),
        lambda net, loss, minibatches: loss_slice(net, loss, minibatches, points=3),
    ],
    ids=["sharpness", "trace", "slice"],
)
def test_what_is_no_pair_or_no_number_is_named(measured) -> None:
    net, minibatches = _net()
    loss = nn.functional.cross_entropy
    inputs, targets = next(iter(minibatches))
    before = [p.clone() for p in net.parameters()]
    for wrong, what in (((inputs, targets, targets), "tuple of 3"), (7, "int")):
        with pytest.raises(ValueError, match=rf"minibatch 1 is a {what}; a pair \(inputs, targets\) is needed"):
            measured(net, loss, [(inputs, targets), wrong])
    with pytest.raises(ValueError, match="Sequential does not take a dict with 'x' by keywords"):
        measured(net, loss, [(inputs, targets), {"x": inputs}])
    with pytest.raises(ValueError, match=rf"loss returned a tensor of shape \({len(targets)},\); one number"):
        measured(net, partial(loss, reduction="none"), minibatches)
    with pytest.raises(TypeError, match=r"loss returned 0\.5; a tensor"):
        measured(net, lambda outputs, targets: 0.5, minibatches)
    assert all(torch.equal(p, b) for p, b in zip(net.parameters(), before, strict=True))


def test_mistakes() -> None:
    net, minibatches = _net()
    loss = nn.functional.cross_entropy
    with pytest.raises(ValueError, match=r"radius is -1"):
        m_sharpness(net, loss, minibatches, [-1.0])
    with pytest.raises(ValueError, match="no parameter"):
        m_sharpness(nn.Linear(3, 2).requires_grad_(False), loss, [(torch.zeros(4, 3), torch.zeros(4).long())], [0.1])
    with pytest.raises(ValueError, match="no minibatch"):
        m_sharpness(net, loss, [], [0.1])
    with pytest.raises(ValueError, match="'test'"):
        m_sharpness(net, loss, minibatches, [0.1], mode="test")
    with pytest.raises(ValueError, match="steps is 2"):
        m_sharpness(net, loss, minibatches, [0.1], steps=2, perturbation=lambda w, g, state: (g, torch.ones(())))


def test_result_as_dict_and_picture() -> None:
    net, minibatches = _net()
    result = m_sharpness(net, nn.functional.cross_entropy, minibatches, [0.1, 0.5])
    assert result.to_dict()["radii"] == (0.1, 0.5)
    assert result.plot().get_lines()[0].get_ydata().tolist() == list(result.values)
