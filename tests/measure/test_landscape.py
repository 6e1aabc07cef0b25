"""Slices of the loss against closed forms, the law of filter normalisation and invariances."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lookbehind import Adaptive
from lookbehind.measure.landscape import loss_slice

LOSS = nn.functional.cross_entropy


class Point(nn.Module):
    """A model whose output is its parameter, so that a loss can be any function of it."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(value.double())

    def forward(self, _: Tensor) -> Tensor:
        return self.w


MINIBATCHES = [(torch.zeros(4), torch.zeros(4))]
H = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 4.0]]).double()
W = torch.tensor([1.0, -2.0, 0.5]).double()


def quadratic(w: Tensor, _: Tensor) -> Tensor:
    return 0.5 * w @ H @ w


def value(w: Tensor) -> float:
    return quadratic(w, w).item()


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 10), st.integers(2, 9), st.lists(st.floats(-2, 2), min_size=3, max_size=3))
def test_a_line_on_a_quadratic_is_the_parabola(span: float, points: int, entries: list[float]) -> None:
    """L(w) + x gᵀd + x² dᵀHd / 2."""
    d = torch.tensor(entries).double()
    result = loss_slice(Point(W), quadratic, MINIBATCHES, [d], span=span, points=points)
    xs = torch.linspace(-span, span, points, dtype=torch.float64)
    assert result.coordinates[0] == pytest.approx(xs.tolist(), abs=1e-12 * span)
    expected = value(W) + xs * (H @ W @ d) + xs**2 * (d @ H @ d) / 2
    assert result.losses[0] == pytest.approx(expected.tolist(), rel=1e-9, abs=1e-12)
    assert result.loss == pytest.approx(value(W))
    assert result.norms == pytest.approx((d.norm().item(),))


def test_a_plane_on_a_quadratic() -> None:
    """Rows follow the second direction, columns the first."""
    d, e = torch.tensor([1.0, 0.0, 0.5]).double(), torch.tensor([0.0, 1.0, 1.0]).double()
    result = loss_slice(Point(W), quadratic, MINIBATCHES, [[d], [e]], span=(1.0, 3.0), points=4)
    for j, y in enumerate([-3, -1, 1, 3]):
        expected = [value(W + x * d + y * e) for x in (-1, -1 / 3, 1 / 3, 1)]
        assert result.losses[j] == pytest.approx(expected, rel=1e-12)
    assert result.coordinates == ((-1, pytest.approx(-1 / 3), pytest.approx(1 / 3), 1), (-3, -1, 1, 3))
    assert result.cosine == pytest.approx((d @ e / (d.norm() * e.norm())).item())


def test_along_the_ascent_of_sam_and_asam() -> None:
    """d = ε/‖ε‖, with ε ∝ g (eq. 3) or w² g (eq. 4 with η = 0); coordinates are distances."""
    g = H @ W
    for rule, epsilon in (("sam", g), (Adaptive(eta=0.0), W**2 * g)):
        result = loss_slice(Point(W), quadratic, MINIBATCHES, rule, span=0.4, points=3)
        d = epsilon / epsilon.norm()
        assert result.losses[0] == pytest.approx([value(W + x * d) for x in (-0.4, 0, 0.4)])
        assert result.norms == pytest.approx((1.0,))
        assert result.gradients == 1
    both = loss_slice(Point(W), quadratic, MINIBATCHES, ("sam", Adaptive(eta=0.0)), points=3)
    assert both.gradients == 1
    assert both.directions == ("sam", "Adaptive(eta=0.0, all tensors)")


def net_and_minibatches() -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 3)
    ).double()
    minibatches = [(torch.randn(n, 2, 4, 4).double(), torch.randint(3, (n,))) for n in (6, 6, 3)]
    for x, _ in minibatches:
        net(x)  # running statistics that are not the initial ones
    return net, minibatches


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_gradient_is_of_the_mean_over_all_data(mode: str) -> None:
    net, minibatches = net_and_minibatches()
    given_ = loss_slice(net, LOSS, minibatches, "sam", span=0.5, points=5, mode=mode)
    net.train(mode == "train")
    total = sum(LOSS(net(x), y) * len(y) for x, y in minibatches) / 15
    gradients = torch.autograd.grad(total, list(net.parameters()))
    length = math.sqrt(sum(g.square().sum().item() for g in gradients))
    expected = loss_slice(net, LOSS, minibatches, [g / length for g in gradients], span=0.5, points=5, mode=mode)
    assert given_.losses[0] == pytest.approx(expected.losses[0], rel=1e-9)
    assert given_.loss == pytest.approx(total.item())


class Recorder(nn.Module):
    """Remembers the weights of a net at each evaluation."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.seen = net, []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append({name: p.detach().clone() for name, p in self.net.named_parameters()})
        return self.net(x)


@pytest.mark.parametrize("one_dimensional", ["ignore", "normalise"])
def test_every_filter_of_a_random_direction_has_the_norm_of_the_weights_filter(one_dimensional: str) -> None:
    net, minibatches = net_and_minibatches()
    net[4].weight.data[2] = 0  # a dead filter stays where it is
    recorder = Recorder(net)
    loss_slice(recorder, LOSS, minibatches[:1], points=2, one_dimensional=one_dimensional)
    (at, low, high) = recorder.seen
    for name, w in at.items():
        d = high[name] - w
        torch.testing.assert_close(low[name], w - d)
        if w.ndim > 1:
            torch.testing.assert_close(d.flatten(1).norm(dim=1), w.flatten(1).norm(dim=1))
        elif one_dimensional == "normalise":
            assert d.norm().item() == pytest.approx(w.norm().item())
            assert d.any() == w.any()  # batch norm's shift is 0
        else:
            assert not d.any()


def test_random_directions_are_normal_within_a_filter_and_differ_between_themselves() -> None:
    """Of a normal vector on the sphere: no preferred direction, kurtosis 3; two are nearly orthogonal."""
    torch.manual_seed(0)
    recorder = Recorder(nn.Linear(20_000, 1, bias=False))
    result = loss_slice(recorder, lambda o, _: o.sum(), [(torch.zeros(1, 20_000), torch.zeros(1))], points=2)
    d = (recorder.seen[2]["weight"] - recorder.seen[0]["weight"]).double()
    d /= d.square().mean().sqrt()
    assert abs(d.mean().item()) < 4 / math.sqrt(20_000)
    assert d.pow(4).mean().item() == pytest.approx(3.0, abs=0.3)
    pair = loss_slice(
        recorder, lambda o, _: o.sum(), [(torch.zeros(1, 20_000), torch.zeros(1))], ("random", "random"), points=2
    )
    assert abs(pair.cosine) < 4 / math.sqrt(20_000)
    assert result.cosine is None


@settings(max_examples=10, deadline=None)
@given(st.floats(0.01, 100))
def test_scaling_a_relu_layer_and_unscaling_the_next_changes_no_slice(c: float) -> None:
    """The function is the same, and filter normalisation makes the slice so too. Plain directions do not."""
    net, minibatches = net_and_minibatches()
    before = loss_slice(net, LOSS, minibatches, ("random", "random"), points=3)
    plain = [torch.ones_like(p) for p in net.parameters()]
    plain_before = loss_slice(net, LOSS, minibatches, plain, points=3)
    with torch.no_grad():
        net[4].weight.mul_(c)
        net[4].bias.mul_(c)
        net[6].weight.div_(c)
    after = loss_slice(net, LOSS, minibatches, ("random", "random"), points=3)
    for a, b in zip(before.losses, after.losses, strict=True):
        assert a == pytest.approx(b, rel=1e-8)
    if not 0.8 < c < 1.25:
        assert loss_slice(net, LOSS, minibatches, plain, points=3).losses[0] != pytest.approx(plain_before.losses[0])


def test_scaling_single_filters_before_a_batch_norm_changes_no_slice() -> None:
    net, minibatches = net_and_minibatches()
    net[1].eps = 1e-20
    before = loss_slice(net, LOSS, minibatches, ("random", "random"), points=3, mode="train")
    with torch.no_grad():
        factors = torch.tensor([0.1, 1.0, 7.0, 50.0]).double()
        net[0].weight.mul_(factors[:, None, None, None])
        net[0].bias.mul_(factors)
    after = loss_slice(net, LOSS, minibatches, ("random", "random"), points=3, mode="train")
    for a, b in zip(before.losses, after.losses, strict=True):
        assert a == pytest.approx(b, rel=1e-8)


def test_what_is_ignored_does_not_change_the_other_directions() -> None:
    net, minibatches = net_and_minibatches()
    seen = []
    for one_dimensional in ("ignore", "normalise"):
        recorder = Recorder(net)
        loss_slice(recorder, LOSS, minibatches[:1], points=2, one_dimensional=one_dimensional)
        seen.append(recorder.seen[2])
    assert all(torch.equal(seen[0][name], seen[1][name]) for name in seen[0] if seen[0][name].ndim > 1)
    assert not torch.equal(seen[0]["4.bias"], seen[1]["4.bias"])


def test_frozen_parameters_stay() -> None:
    net, minibatches = net_and_minibatches()
    net[0].requires_grad_(False)
    recorder = Recorder(net)
    loss_slice(recorder, LOSS, minibatches[:1], ("random", "sam"), points=2)
    assert all(torch.equal(w["0.weight"], net[0].weight) for w in recorder.seen)
    assert not torch.equal(recorder.seen[-1]["4.weight"], net[4].weight)


def test_cost_is_as_stated_and_the_seed_decides() -> None:
    net, minibatches = net_and_minibatches()
    calls = 0

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return LOSS(outputs, targets)

    result = loss_slice(net, loss, minibatches, points=5)
    assert (calls, result.gradients, result.evaluations) == (18, 0, 18)
    calls = 0
    result = loss_slice(net, loss, minibatches, ("sam", "random"), points=4)
    assert (calls, result.gradients, result.evaluations) == (54, 3, 51)
    a, b, c = (loss_slice(net, loss, minibatches, seed=s).losses for s in (1, 1, 2))
    assert a == b != c


class Boom(Exception):
    pass


@pytest.mark.parametrize("fail", [0, 2, 9])
@pytest.mark.parametrize("directions", ["random", ("sam", "random")])
def test_the_model_comes_back_untouched(directions, fail: int) -> None:
    net, minibatches = net_and_minibatches()
    net[4].weight.requires_grad_(False)
    net[1].eval()
    net[6].bias.grad = torch.ones(3).double()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    where = [p.data_ptr() for p in net.parameters()]
    random = torch.get_rng_state()
    calls = 0

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == fail:
            raise Boom
        return LOSS(outputs, targets)

    if fail:
        with pytest.raises(Boom):
            loss_slice(net, loss, minibatches, directions, mode="train", points=3)
    else:
        loss_slice(net, loss, minibatches, directions, mode="train", points=3)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert [m.training for m in net] == [True, False, True, True, True, True, True]
    assert [p.requires_grad for p in net[4].parameters()] == [False, True]
    assert torch.equal(net[6].bias.grad, torch.ones(3).double())
    assert net[6].weight.grad is None
    assert [p.data_ptr() for p in net.parameters()] == where
    assert torch.equal(torch.get_rng_state(), random)


def test_dropout_masks_are_the_same_at_every_point() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Dropout(0.5), nn.Linear(20, 2))
    minibatches = [(torch.randn(6, 20), torch.randint(2, (6,)))]
    zero = [torch.zeros_like(p) for p in net.parameters()]
    result = loss_slice(net, LOSS, minibatches, zero, points=9, mode="train")
    assert set(result.losses[0]) == {result.loss}


def test_mistakes() -> None:
    net, minibatches = net_and_minibatches()
    wrong = [
        ({"directions": "radnom"}, "direction is 'radnom'; allowed are 'random', 'sam', 'asam'"),
        ({"directions": ("sam",) * 3}, "there are 3 directions"),
        ({"directions": []}, "there are 0 directions"),
        ({"directions": ("sam", "sam")}, "parallel"),
        ({"directions": [torch.zeros(3)]}, "shapes"),
        ({"span": -1.0}, "span is -1"),
        ({"span": (1.0, 2.0)}, "or one for each of 1 directions"),
        ({"points": 1}, "points is 1"),
        ({"mode": "test"}, "mode is 'test'"),
        ({"one_dimensional": "drop"}, "one_dimensional is 'drop'"),
    ]
    for arguments, words in wrong:
        with pytest.raises(ValueError, match=words):
            loss_slice(net, LOSS, minibatches, **arguments)
    with pytest.raises(ValueError, match="iterator"):
        loss_slice(net, LOSS, iter(minibatches))
    with pytest.raises(ValueError, match="no minibatch"):
        loss_slice(net, LOSS, [])
    with pytest.raises(ValueError, match="no parameter"):
        loss_slice(nn.Linear(3, 2).requires_grad_(False), LOSS, minibatches)


def test_result_as_dict_and_picture() -> None:
    net, minibatches = net_and_minibatches()
    line = loss_slice(net, LOSS, minibatches, "sam", points=5)
    assert json.loads(json.dumps(line.to_dict()))["losses"] == [list(line.losses[0])]
    assert line.plot().get_lines()[0].get_ydata().tolist() == list(line.losses[0])


@pytest.mark.parametrize(
    "losses", [(1.0, 2.0, 4.0), (-1.0, 0.0, 1.0), (2.0,) * 3, (math.inf, 1.0, 2.0), (math.nan,) * 3]
)
def test_pictures_of_planes(losses: tuple[float, ...]) -> None:
    net, minibatches = net_and_minibatches()
    plane = loss_slice(net, LOSS, minibatches, ("random", "sam"), points=3)
    axes = replace(plane, losses=(losses, losses, (0.5,) * 3)).plot()
    axes.figure.canvas.draw()
    assert axes.get_ylabel() == "coordinate along sam"
    assert bool(axes.collections) is math.isfinite(losses[1])
    flat = replace(plane, losses=((losses[0],) * 3,) * 3).plot()
    assert not flat.collections
