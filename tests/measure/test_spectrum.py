"""Eigenvalues, trace and density of the Hessian against the exact Hessian, ARPACK and laws."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn

from lookbehind.data import load_digits
from lookbehind.measure._objective import Objective
from lookbehind.measure.density import spectral_density
from lookbehind.measure.spectrum import hessian_trace, top_eigenvalues
from lookbehind.models import ConvNet

LOSS = nn.functional.cross_entropy
MEASUREMENTS = [top_eigenvalues, hessian_trace, spectral_density]


class Point(nn.Module):
    """A model whose output is its parameter, so that a loss can be any function of it."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(value.double())

    def forward(self, _: Tensor) -> Tensor:
        return self.w


def quadratic(hessian: Tensor):
    return lambda w, _: 0.5 * w @ hessian @ w


MINIBATCHES = [(torch.zeros(4), torch.zeros(4))]


def net_and_minibatches() -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    """36 parameters and minibatches of different sizes."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2), nn.Tanh()).double()
    minibatches = [(torch.randn(n, 3).double(), torch.randint(2, (n,))) for n in (7, 7, 3)]
    for x, _ in minibatches:
        net(x)  # running statistics that are not the initial ones
    return net, minibatches


def exact_hessian(net: nn.Module, minibatches: list[tuple[Tensor, Tensor]], mode: str) -> Tensor:
    """Column by column, of the loss as a function of one flat vector."""
    net.train(mode == "train")
    names = [name for name, p in net.named_parameters() if p.requires_grad]
    shapes = [net.get_parameter(name).shape for name in names]
    fixed = {k: v.clone() for k, v in net.state_dict().items() if k not in names}

    def loss(vector: Tensor) -> Tensor:
        parts = vector.split([s.numel() for s in shapes])
        state = {n: part.view(s) for n, part, s in zip(names, parts, shapes, strict=True)} | fixed
        total = sum(LOSS(torch.func.functional_call(net, state, (x,)), y) * len(y) for x, y in minibatches)
        return total / sum(len(y) for _, y in minibatches)

    vector = torch.cat([net.get_parameter(name).detach().flatten() for name in names])
    return torch.autograd.functional.hessian(loss, vector)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_eigenvalues_against_the_exact_hessian(mode: str) -> None:
    net, minibatches = net_and_minibatches()
    exact = torch.linalg.eigvalsh(exact_hessian(net, minibatches, mode)).flip(0)
    result = top_eigenvalues(net, LOSS, minibatches, top=4, tolerance=1e-9, mode=mode)
    assert result.converged
    assert result.values == pytest.approx(exact[:4].tolist(), rel=1e-8)
    assert result.parameters == 34
    other = {"eval": "train", "train": "eval"}[mode]
    assert top_eigenvalues(net, LOSS, minibatches, mode=other).values[0] != pytest.approx(exact[0].item(), rel=0.01)


@pytest.mark.parametrize("steps", [1, 2, 4, 6])
def test_what_has_not_converged_says_so_and_how_far_off_it_may_be(steps: int) -> None:
    net, minibatches = net_and_minibatches()
    exact = torch.linalg.eigvalsh(exact_hessian(net, minibatches, "eval"))
    result = top_eigenvalues(net, LOSS, minibatches, top=2, steps=steps, tolerance=1e-9)
    assert not result.converged
    assert result.steps == steps
    assert len(result.values) == min(2, steps)
    for value, residual in zip(result.values, result.residuals, strict=True):
        assert residual > 1e-9 * exact[-1]
        assert (exact - value).abs().min() <= residual * (1 + 1e-9)


@pytest.mark.parametrize("top", [1, 3])
def test_it_stops_as_soon_as_the_residuals_allow(top: int) -> None:
    net, minibatches = net_and_minibatches()
    for tolerance in (0.3, 1e-2, 1e-6):
        result = top_eigenvalues(net, LOSS, minibatches, top=top, tolerance=tolerance)
        assert result.converged
        assert len(result.values) == top
        fewer = top_eigenvalues(net, LOSS, minibatches, top=top, tolerance=tolerance, steps=result.steps - 1)
        assert len(fewer.values) < top or not fewer.converged


def test_a_residual_that_rounding_forbids_is_not_claimed() -> None:
    """In float32 no residual reaches 1e-12, though the iteration's own estimate may."""
    net, minibatches = net_and_minibatches()
    net.float()
    minibatches = [(x.float(), y) for x, y in minibatches]
    result = top_eigenvalues(net, LOSS, minibatches, tolerance=1e-12)
    assert not result.converged
    assert 1e-12 * result.values[0] < result.residuals[0] < 1e-4 * result.values[0]


def test_eigenvalues_of_24_thousand_parameters_against_arpack() -> None:
    """With Hessian-vector products of another kind: forward over reverse."""
    torch.manual_seed(0)
    digits = load_digits()
    images, labels = digits.train_images[:100], digits.train_labels[:100]
    net = ConvNet().eval()
    names, weights = zip(*net.named_parameters(), strict=True)
    weights = tuple(w.detach() for w in weights)
    sizes = [w.numel() for w in weights]

    def loss(*weights: Tensor) -> Tensor:
        return LOSS(torch.func.functional_call(net, dict(zip(names, weights, strict=True)), (images,)), labels)

    gradient = torch.func.grad(loss, argnums=tuple(range(len(weights))))

    def product(vector: np.ndarray) -> np.ndarray:
        parts = torch.from_numpy(vector).float().flatten().split(sizes)
        v = tuple(part.view(w.shape) for part, w in zip(parts, weights, strict=True))
        return torch.cat([t.flatten() for t in torch.func.jvp(gradient, weights, v)[1]]).numpy()

    operator = LinearOperator((sum(sizes), sum(sizes)), matvec=product, dtype=np.float32)
    start = np.random.default_rng(0).standard_normal(sum(sizes)).astype(np.float32)
    exact = eigsh(operator, k=3, which="LA", v0=start, tol=1e-5, return_eigenvectors=False)
    result = top_eigenvalues(net, LOSS, [(images, labels)], top=3)
    assert result.converged
    assert result.values == pytest.approx(sorted(exact, reverse=True), rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=1, max_size=8, unique=True), st.integers(1, 9), st.integers(0, 99))
def test_eigenvalues_of_any_spectrum(spectrum: list[int], top: int, seed: int) -> None:
    """Zero, negative, single: as many as there are, the largest first, not those of largest size."""
    n = len(spectrum)
    q, _ = torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(seed)).double())
    hessian = q @ torch.diag(torch.tensor(spectrum).double()) @ q.T
    result = top_eigenvalues(Point(torch.ones(n)), quadratic(hessian), MINIBATCHES, top=top, tolerance=1e-9, seed=seed)
    assert result.values == pytest.approx(sorted(spectrum, reverse=True)[:top], abs=1e-7)
    assert result.converged


def test_a_loose_tolerance_still_returns_as_many_as_asked_for() -> None:
    """Here a single step already has a residual of a tenth."""
    hessian = torch.diag(torch.tensor([10.0, 9.0, 8.0, 7.0])).double()
    result = top_eigenvalues(Point(torch.ones(4)), quadratic(hessian), MINIBATCHES, top=3, tolerance=0.3)
    assert len(result.values) == 3


def test_repeated_eigenvalues_count_once() -> None:
    hessian = torch.diag(torch.tensor([5.0, 5.0, 1.0, 1.0, 1.0])).double()
    result = top_eigenvalues(Point(torch.ones(5)), quadratic(hessian), MINIBATCHES, top=4)
    assert result.values == pytest.approx([5.0, 1.0])
    assert result.steps == 2


@pytest.mark.parametrize("measure", MEASUREMENTS)
def test_a_loss_without_curvature(measure) -> None:
    result = measure(Point(torch.ones(6)), lambda w, _: w.sum(), MINIBATCHES).to_dict()
    assert result.get("values", (0.0,)) == (0.0,)
    assert result.get("trace", 0.0) == 0.0
    assert result.get("converged", True)
    assert set(result.get("nodes", [(0.0,)])) == {(0.0,)}


def test_trace_against_the_exact_hessian() -> None:
    """Unbiased; and Var vᵀHv = 2 Σᵢ≠ⱼ Hᵢⱼ² for entries ±1, to which the standard error has to agree."""
    net, minibatches = net_and_minibatches()
    exact = exact_hessian(net, minibatches, "eval")
    result = hessian_trace(net, LOSS, minibatches, draws=1000, tolerance=1.0)
    variance = 2 * (exact.square().sum() - exact.diagonal().square().sum()).item()
    assert result.standard_error == pytest.approx(math.sqrt(variance / 1000), rel=0.15)
    assert abs(result.trace - exact.trace().item()) < 4 * result.standard_error
    assert result.trace == pytest.approx(sum(result.estimates) / 1000)
    assert result.converged


def test_the_trace_of_a_diagonal_is_exact_and_one_that_is_not_known_says_so() -> None:
    diagonal = torch.diag(torch.tensor([3.0, -1.0, 0.5])).double()
    result = hessian_trace(Point(torch.ones(3)), quadratic(diagonal), MINIBATCHES, draws=2, tolerance=0.0)
    assert (result.trace, result.standard_error, result.converged) == (2.5, 0.0, True)
    crossed = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double()
    result = hessian_trace(Point(torch.ones(2)), quadratic(crossed), MINIBATCHES, draws=50)
    assert set(result.estimates) == {-2.0, 2.0}
    assert result.standard_error == pytest.approx(np.std(result.estimates, ddof=1) / math.sqrt(50))
    assert not result.converged


SPECTRUM = torch.tensor([-2.0, 0.0, 0.5, 1.0, 4.0, 10.0]).double()


def rotated(spectrum: Tensor) -> Tensor:
    q, _ = torch.linalg.qr(
        torch.randn(len(spectrum), len(spectrum), generator=torch.Generator().manual_seed(3)).double()
    )
    return q @ torch.diag(spectrum) @ q.T


def test_density_against_the_exact_spectrum() -> None:
    result = spectral_density(Point(torch.ones(6)), quadratic(rotated(SPECTRUM)), MINIBATCHES, probes=600, width=0.05)
    nodes, weights = np.array(result.nodes), np.array(result.weights)
    np.testing.assert_allclose(nodes, np.tile(SPECTRUM.numpy(), (600, 1)), atol=1e-8)
    np.testing.assert_allclose(weights.mean(0), 1 / 6, atol=4 * weights.std() / math.sqrt(600))
    assert result.width == pytest.approx(0.05 * 12)
    grid, density = np.array(result.grid), np.array(result.density)
    normals = np.exp(-(((grid[:, None] - SPECTRUM.numpy()) / 0.6) ** 2) / 2) / (0.6 * math.sqrt(2 * math.pi))
    errors = (density - normals.mean(1)) / np.maximum(result.standard_error, 1e-12)
    assert np.abs(errors).max() < 5
    assert np.abs(errors).mean() > 0.2  # and the standard error is no wider than it has to be
    assert density.sum() * (grid[1] - grid[0]) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_few_steps_keep_the_moments(steps: int) -> None:
    """Gauss quadrature: moments of the same random vectors agree up to 2 · steps − 1, and not beyond."""
    model, loss = Point(torch.ones(6)), quadratic(rotated(SPECTRUM))
    few = spectral_density(model, loss, MINIBATCHES, probes=3, steps=steps)
    all_ = spectral_density(model, loss, MINIBATCHES, probes=3, steps=6)

    def moments(result, k: int) -> list[float]:
        return [np.dot(w, np.array(n) ** k) for n, w in zip(result.nodes, result.weights, strict=True)]

    for k in range(2 * steps):
        assert moments(few, k) == pytest.approx(moments(all_, k), rel=1e-9)
    assert moments(few, 2 * steps) != pytest.approx(moments(all_, 2 * steps), rel=1e-3)


def test_density_of_a_net_has_its_moments() -> None:
    net, minibatches = net_and_minibatches()
    exact = exact_hessian(net, minibatches, "eval")
    result = spectral_density(net, LOSS, minibatches, probes=60, steps=12)
    for power, expected in ((1, exact.trace() / 34), (2, (exact @ exact).trace() / 34)):
        samples = [np.dot(w, np.array(n) ** power) for n, w in zip(result.nodes, result.weights, strict=True)]
        assert abs(np.mean(samples) - expected.item()) < 4 * np.std(samples, ddof=1) / math.sqrt(60)
    assert max(max(n) for n in result.nodes) == pytest.approx(torch.linalg.eigvalsh(exact)[-1].item(), rel=1e-3)


@pytest.mark.parametrize("measure", MEASUREMENTS)
def test_in_eval_mode_it_does_not_matter_how_the_data_are_cut(measure) -> None:
    net, minibatches = net_and_minibatches()
    whole = [tuple(torch.cat(parts) for parts in zip(*minibatches, strict=True))]
    a, b = (measure(net, LOSS, m).to_dict() for m in (minibatches, whole))
    shared = a.keys() & {"values", "trace", "estimates", "density"}
    assert shared
    for key in shared:
        assert a[key] == pytest.approx(b[key], rel=1e-6, abs=1e-9)


def test_only_what_requires_a_gradient_counts() -> None:
    net, minibatches = net_and_minibatches()
    net[0].requires_grad_(False)
    exact = torch.linalg.eigvalsh(exact_hessian(net, minibatches, "eval"))
    result = top_eigenvalues(net, LOSS, minibatches, tolerance=1e-9)
    assert result.parameters == len(exact) == 18
    assert result.values[0] == pytest.approx(exact[-1].item(), rel=1e-8)


def test_a_parameter_that_the_loss_does_not_see_has_no_curvature() -> None:
    net, minibatches = net_and_minibatches()
    plain = top_eigenvalues(net, LOSS, minibatches, tolerance=1e-9).values
    net.register_parameter("unused", nn.Parameter(torch.ones(5).double()))
    assert top_eigenvalues(net, LOSS, minibatches, tolerance=1e-9).values == pytest.approx(plain)


def test_dropout_in_train_mode_is_one_function() -> None:
    """The same masks in every product, else H would not be symmetric; and the user's random numbers go on."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 2)).double()
    minibatches = net_and_minibatches()[1]
    torch.manual_seed(7)
    objective = Objective(net, LOSS, minibatches, "train")
    u, v = torch.randn(2, objective.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert (u @ objective.hessian_times(v)).item() == pytest.approx((v @ objective.hessian_times(u)).item(), rel=1e-9)
    state = torch.get_rng_state()
    result = top_eigenvalues(net, LOSS, minibatches, mode="train", tolerance=1e-8)
    assert result.converged
    assert torch.equal(torch.get_rng_state(), state)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(4, 12)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x).unflatten(-1, (3, 4)).unbind(-2)
        return nn.functional.scaled_dot_product_attention(q, k, v).mean(1)


def test_attention_has_second_derivatives() -> None:
    """Torch's fast kernels have none, and it takes them for such shapes by itself."""
    torch.manual_seed(0)
    minibatches = [(torch.randn(2, 1, 5, 4), torch.randint(4, (2,)))]
    result = top_eigenvalues(nn.Sequential(Attention(), nn.Flatten(1)), LOSS, minibatches, top=1)
    assert result.converged
    assert result.values[0] > 0


@pytest.mark.parametrize("measure", MEASUREMENTS)
def test_gradients_are_as_stated(measure) -> None:
    net, minibatches = net_and_minibatches()
    calls = 0

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return LOSS(outputs, targets)

    result = measure(net, loss, minibatches)
    products = {
        top_eigenvalues: lambda: result.steps + 1,
        hessian_trace: lambda: 100,
        spectral_density: lambda: sum(map(len, result.nodes)),
    }[measure]()
    assert calls == 3 * products
    assert result.gradients == 2 * calls
    assert result.minibatches == 3


class Boom(Exception):
    pass


@pytest.mark.parametrize("fail", [False, True])
@pytest.mark.parametrize("measure", MEASUREMENTS)
def test_the_model_comes_back_untouched(measure, fail: bool) -> None:
    net, minibatches = net_and_minibatches()
    net[0].weight.requires_grad_(False)
    net[1].eval()
    net[3].bias.grad = torch.ones(2).double()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    random = torch.get_rng_state()
    calls = 0

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if fail and calls == 5:
            raise Boom
        return LOSS(outputs, targets)

    if fail:
        with pytest.raises(Boom):
            measure(net, loss, minibatches, mode="train")
    else:
        measure(net, loss, minibatches, mode="train")
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert [m.training for m in net] == [True, False, True, True, True]
    assert [p.requires_grad for p in net.parameters()] == [False, True, True, True, True, True]
    assert torch.equal(net[3].bias.grad, torch.ones(2).double())
    assert net[3].weight.grad is None
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("measure", MEASUREMENTS)
def test_the_seed_decides(measure) -> None:
    net, minibatches = net_and_minibatches()
    a, b, c = (measure(net, LOSS, minibatches, seed=s).to_dict() for s in (1, 1, 2))
    assert a == b
    assert {**a, "seed": 2} != c


@pytest.mark.parametrize("measure", MEASUREMENTS)
def test_mistakes(measure) -> None:
    net, minibatches = net_and_minibatches()
    with pytest.raises(ValueError, match="iterator"):
        measure(net, LOSS, iter(minibatches))
    with pytest.raises(ValueError, match="no minibatch"):
        measure(net, LOSS, [])
    with pytest.raises(ValueError, match="mode is 'test'"):
        measure(net, LOSS, minibatches, mode="test")
    with pytest.raises(ValueError, match="no parameter"):
        measure(nn.Linear(3, 2).requires_grad_(False), LOSS, minibatches)
    with torch.no_grad():
        net[0].weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="diverge"):
        measure(net, LOSS, minibatches)


@pytest.mark.parametrize(
    ("measure", "arguments"),
    [
        (top_eigenvalues, {"top": 0}),
        (top_eigenvalues, {"steps": 0}),
        (top_eigenvalues, {"tolerance": -1.0}),
        (hessian_trace, {"draws": 1}),
        (hessian_trace, {"tolerance": -1.0}),
        (spectral_density, {"probes": 1}),
        (spectral_density, {"steps": 0}),
        (spectral_density, {"width": 0.0}),
    ],
)
def test_arguments_out_of_range(measure, arguments: dict[str, float]) -> None:
    net, minibatches = net_and_minibatches()
    name, value = next(iter(arguments.items()))
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        measure(net, LOSS, minibatches, **arguments)


def test_vectors_that_do_not_fit_into_memory_are_refused_before_any_work() -> None:
    model = Point(torch.zeros(2_000_000))
    with pytest.raises(ValueError, match="steps is 1000000: so many vectors of 2000000 numbers take 14901 GiB"):
        top_eigenvalues(model, lambda w, _: w.square().sum(), MINIBATCHES, steps=1_000_000)


@pytest.mark.parametrize("measure", MEASUREMENTS)
def test_result_as_dict_and_picture(measure) -> None:
    net, minibatches = net_and_minibatches()
    result = measure(net, LOSS, minibatches)
    assert json.loads(json.dumps(result.to_dict()))["parameters"] == 34
    line = result.plot().get_lines()[0].get_ydata()
    shown = {top_eigenvalues: "values", spectral_density: "density"}.get(measure)
    if shown:
        assert list(line) == list(getattr(result, shown))
    else:
        assert line[-1] == pytest.approx(result.trace)
