"""What must hold of each method of the family, whatever the numbers."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from lookbehind import (
    GNP,
    GSAM,
    METHODS,
    S2SAM,
    SAM,
    WSAM,
    XSAM,
    AccumulatingSAM,
    Euclidean,
    FollowsRate,
    FractionSAM,
    FriendlySAM,
    Lookbehind,
    LookSAM,
    MomentumSAM,
    MultistepSAM,
    StableSAM,
    VaSSO,
)
from lookbehind._tensors import ratio
from tests.laws.test_laws import Task, assert_same, in_a_row, momenta, rates, rhos, rules, seeds, trajectory

Make = Callable[[Optimizer], Optimizer]


def of(make: Make, seed: int, lr: float, momentum: float) -> list[torch.Tensor]:
    return trajectory(seed, lambda p: make(SGD(p, lr, momentum, weight_decay=0.01)))


SAM_AGAIN: dict[str, Callable[..., Any]] = {
    "GSAM, α = 0": lambda base, rho, rule: GSAM(base, rho, 0.0, perturbation=rule),
    "GNP, α = 1": lambda base, rho, rule: GNP(base, rho, 1.0, perturbation=rule),
    "WSAM, γ = ½": lambda base, rho, rule: WSAM(base, rho, 0.5, decoupled=False, perturbation=rule),
    "Friendly-SAM, σ = 0": lambda base, rho, rule: FriendlySAM(base, rho, 0.0, perturbation=rule),
    "VaSSO, θ = 1": lambda base, rho, rule: VaSSO(base, rho, 1.0, perturbation=rule),
    "LookSAM, k = 1": lambda base, rho, rule: LookSAM(base, rho, 1, perturbation=rule),
    "XSAM, α = 1": lambda base, rho, rule: XSAM(base, rho, perturbation=rule),
}


@pytest.mark.parametrize("make", SAM_AGAIN.values(), ids=SAM_AGAIN)
@given(seeds, rhos, rates, momenta, rules)
def test_is_sam(make: Any, seed: int, rho: float, lr: float, momentum: float, rule: str) -> None:
    sam = of(lambda base: SAM(base, rho, perturbation=rule), seed, lr, momentum)
    assert_same(of(lambda base: make(base, rho, rule), seed, lr, momentum), sam)


BASE_AGAIN: dict[str, Make] = {
    "GNP, α = 0": lambda base: GNP(base, 0.3, 0.0),
    "WSAM, γ = 0": lambda base: WSAM(base, 0.3, 0.0),
    "one micro-batch": lambda base: AccumulatingSAM(base, 0.3),
    "one micro-batch, anchored": lambda base: AccumulatingSAM(base, 0.3, anchored=True),
    # ρ = 0
    **{
        record.title: lambda base, r=record: r.build(base, rho=0.0, **({"alpha": 1.0} if "k" in r.options else {}))
        for name, record in METHODS.items()
        if record.closures == 1 and name not in ("lookahead", "lookbehind", "looksam", "multistep_sam")
    },
    "Multistep-SAM": lambda base: MultistepSAM(base, rho=0.0, k=3),
    "Lookbehind": lambda base: Lookbehind(base, rho=0.0, k=1, alpha=1.0),
    "LookSAM": lambda base: LookSAM(base, 0.0, every=2),
}


@pytest.mark.parametrize("make", BASE_AGAIN.values(), ids=BASE_AGAIN)
@given(seeds, rates, momenta)
def test_is_the_base(make: Make, seed: int, lr: float, momentum: float) -> None:
    assert_same(of(make, seed, lr, momentum), of(lambda base: base, seed, lr, momentum))


@given(seeds, rhos, rates, st.sampled_from([1, 2, 3]), rules)
def test_xsam_with_alpha_1_is_multistep(seed: int, rho: float, lr: float, k: int, rule: str) -> None:
    multistep = of(lambda base: MultistepSAM(base, rho, k, perturbation=rule), seed, lr, 0.9)
    assert_same(of(lambda base: XSAM(base, rho, k, 1.0, perturbation=rule), seed, lr, 0.9), multistep, 1e-8)


@given(seeds, rhos, rates)
def test_momentum_and_displacement_are_one_for_sgd_at_one_rate(seed: int, rho: float, lr: float) -> None:
    """SGD moves by −η v, decay included, so û(v) = −û(Δ)."""
    by_momentum = of(lambda base: MomentumSAM(base, rho, along="momentum"), seed, lr, 0.9)
    assert_same(of(lambda base: MomentumSAM(base, rho, along="displacement"), seed, lr, 0.9), by_momentum, 1e-7)


SCALED: dict[str, Make] = {
    record.title: lambda base, r=record: r.build(base, **r.trial)
    for name, record in METHODS.items()
    if record.closures == 1
}


@pytest.mark.parametrize("make", SCALED.values(), ids=SCALED)
@given(seeds, st.sampled_from([2.0**-20, 2.0**-3, 2.0**10]))
def test_c_times_the_loss_at_rate_over_c_is_the_same(make: Make, seed: int, c: float) -> None:
    """A power of two scales exactly, so all weights are equal bit for bit."""

    def path(c: float) -> list[torch.Tensor]:
        task, found = Task(seed), []
        optimizer = make(SGD(task.parameters, 0.05 / c, 0.9))
        for i in range(6):

            def closure(i: int = i) -> torch.Tensor:
                for p in task.parameters:
                    p.grad = None
                loss = c * task.loss(i)
                loss.backward()
                return loss

            optimizer.step(closure)
            found.append(in_a_row(task.parameters))
        return found

    assert_same(path(c), path(1.0), 1e-12)


@given(seeds, rhos)
def test_stable_sam_descends_as_far_as_the_clean_gradient(seed: int, rho: float) -> None:
    task, clean = Task(seed), Task(seed)
    before = in_a_row(task.parameters)
    StableSAM(SGD(task.parameters, 1.0), rho).step(task.closure(0))
    clean.closure(0)()
    gradient = in_a_row([p.grad for p in clean.parameters if p.grad is not None])
    torch.testing.assert_close((in_a_row(task.parameters) - before).norm(), gradient.norm())


@given(seeds, rhos)
def test_gsam_s_correction_is_across_sam_s_gradient(seed: int, rho: float) -> None:
    """Along g_s, GSAM moves as SAM does; α changes what is across, by α g_⊥."""
    moves = []
    for make in (lambda b: SAM(b, rho), lambda b: GSAM(b, rho, 0.4), lambda b: GSAM(b, rho, 0.8)):
        task = Task(seed)
        before = in_a_row(task.parameters)
        make(SGD(task.parameters, 1.0)).step(task.closure(0))
        moves.append(before - in_a_row(task.parameters))
    g_s, first, second = moves
    torch.testing.assert_close((first - g_s) @ g_s, torch.zeros((), dtype=torch.float64), atol=1e-9, rtol=0.0)
    torch.testing.assert_close(second - g_s, 2 * (first - g_s), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("start", [1.0, 0.0, -1e-8])
def test_xsam_on_a_line_takes_the_gradient_as_it_is(alpha: float, start: float) -> None:
    """There climb and gradient are parallel, opposite or zero, and the arc between them is none."""
    p = nn.Parameter(torch.tensor([start], dtype=torch.float64))
    optimizer = XSAM(SGD([p], lr=0.1), rho=0.3, alpha=alpha)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (p**2).sum() / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    climbed = start + (0.3 if start > 0 else -0.3 if start < 0 else 0.0)
    assert p.item() == pytest.approx(start - 0.1 * climbed, abs=1e-12)


def test_xsam_searches_the_arc() -> None:
    """Against the losses on a grid, by hand. Losses below zero choose the same, and so does maximising −L."""
    chosen = []
    for shift, sign in ((0.0, 1.0), (-100.0, 1.0), (0.0, -1.0)):
        task = Task(3)
        optimizer = XSAM(SGD(task.parameters, 0.1, maximize=sign < 0), rho=0.4, rho_max=0.8)

        def loss_of(task: Task = task, shift: float = shift, sign: float = sign) -> torch.Tensor:
            return sign * task.loss(1) + shift

        def closure(task: Task = task, loss_of: Callable[[], torch.Tensor] = loss_of) -> torch.Tensor:
            for p in task.parameters:
                p.grad = None
            loss = loss_of()
            loss.backward()
            return loss

        closure()
        before, gradients = in_a_row(task.parameters), [p.grad.clone() for p in task.parameters if p.grad is not None]
        chosen.append(optimizer.search(closure, loss_of))
        assert torch.equal(in_a_row(task.parameters), before)
        assert torch.equal(in_a_row([p.grad for p in task.parameters if p.grad is not None]), in_a_row(gradients))
        assert optimizer.param_groups[0]["alpha"] == chosen[-1]
    assert chosen[0] == chosen[1] == chosen[2]
    by_hand = Task(3)
    start = in_a_row(by_hand.parameters)

    def gradient_at(x: torch.Tensor) -> torch.Tensor:
        put(by_hand, x)
        by_hand.closure(1)()
        return in_a_row([p.grad for p in by_hand.parameters if p.grad is not None])

    g = gradient_at(start)
    v_0 = g / g.norm()
    v_1 = gradient_at(start + 0.4 * v_0)
    v_1 = v_1 / v_1.norm()
    theta = torch.arccos(v_0 @ v_1)
    losses = []
    for i in range(21):
        arc = (torch.sin((1 - i / 10) * theta) * v_0 + torch.sin(i / 10 * theta) * v_1) / torch.sin(theta)
        put(by_hand, start + 0.8 * arc)
        losses.append(by_hand.loss(1).item())
    assert chosen[0] == pytest.approx(losses.index(max(losses)) / 10)


def put(task: Task, x: torch.Tensor) -> None:
    with torch.no_grad():
        for p, part in zip(task.parameters, x.split([p.numel() for p in task.parameters]), strict=True):
            p.copy_(part.view_as(p))


def test_a_chain_with_a_constant_radius_does_not_arrive() -> None:
    """On w²/2 it stays a distance of order ρ away; a radius that follows a falling rate brings it far nearer."""

    def distance(**options: Any) -> float:
        p = nn.Parameter(torch.tensor([1.0, 0.5], dtype=torch.float64))
        base = SGD([p], lr=0.1)
        optimizer = S2SAM(base, rho=0.5, **options)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = (p**2).sum() / 2
            loss.backward()
            return loss

        for t in range(400):
            base.param_groups[0]["lr"] = 0.1 * (1 - t / 400)
            optimizer.step(closure)
        return float(p.detach().norm())

    assert distance() > 0.1
    assert distance(radius=FollowsRate(lr_max=0.1)) < 0.05


def test_the_limit_of_the_radius_is_le_sam_s() -> None:
    """ρ_t = min(σ / ‖g‖, ρ_max), σ = 0.5, ρ_max = 0.2: limit = σ / ρ_max = 2.5."""
    for size in (0.1, 2.4, 2.6, 40.0):
        p = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        optimizer = SAM(SGD([p], lr=0.0), rho=0.2, perturbation=Euclidean(limit=2.5))
        seen = []

        def closure(p: nn.Parameter = p, size: float = size, seen: list[float] = seen) -> None:
            seen.append(float(p.detach().norm()))
            p.grad = torch.tensor([0.6, 0.8], dtype=torch.float64) * size

        optimizer.step(closure)
        assert seen[1] == pytest.approx(min(0.5 / size, 0.2), rel=1e-12)


def test_looksam_between_its_climbs_resumes_and_skips() -> None:
    tasks = [Task(1) for _ in range(3)]
    whole, first = (LookSAM(AdamW(t.parameters, 0.01), 0.2, every=3, nonfinite="skip") for t in tasks[:2])
    for i in range(5):
        whole.step(tasks[0].closure(i))
        first.step(tasks[1].closure(i))
        if i == 3:

            def poisoned() -> torch.Tensor:
                loss = tasks[1].loss(0) * float("nan")
                loss.backward()
                return loss

            first.step(poisoned)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    put(tasks[2], in_a_row(tasks[1].parameters))
    second = LookSAM(AdamW(tasks[2].parameters, 0.01), 0.2, every=3, nonfinite="skip")
    second.load_state_dict(torch.load(file, weights_only=True))
    for i in range(5, 10):
        whole.step(tasks[0].closure(i))
        second.step(tasks[2].closure(i))
    assert torch.equal(in_a_row(tasks[0].parameters), in_a_row(tasks[2].parameters))


def test_looksam_adds_nothing_where_all_of_sam_s_gradient_is_along_the_clean_one() -> None:
    """On a line g_v is only rounding; scaled up to ‖g‖ it would be noise."""
    p = nn.Parameter(torch.tensor([0.7, 0.1], dtype=torch.float64))
    optimizer = LookSAM(SGD([p], lr=0.1), rho=0.3, every=2)
    direction = torch.tensor([0.3, 0.7], dtype=torch.float64) / 3

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = ((p * direction).sum() - 1) ** 2
        loss.backward()
        return loss

    optimizer.step(closure)
    before = p.detach().clone()
    closure()
    assert p.grad is not None
    gradient = p.grad.clone()
    optimizer.step(closure)
    torch.testing.assert_close(p.detach(), before - 0.1 * gradient, rtol=0.0, atol=1e-14)


def test_the_rest_weighs_each_example_once() -> None:
    """With ρ = 0, (1 − f) ∇L_rest + f ∇L_A is the gradient of the whole minibatch."""
    x = torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ways = []
    for whole in (True, False):
        w = nn.Parameter(torch.ones(3, dtype=torch.float64))
        base = SGD([w], lr=0.1)

        def closure_of(x: torch.Tensor, w: nn.Parameter = w) -> Callable[[], torch.Tensor]:
            def closure() -> torch.Tensor:
                w.grad = None
                loss = ((x @ w) ** 2).mean()
                loss.backward()
                return loss

            return closure

        if whole:
            base.step(closure_of(x))  # type: ignore[arg-type]
        else:
            FractionSAM(base, 0.0, 0.25, "rest").step([closure_of(x[:2]), closure_of(x[2:])])
        ways.append(w.detach())
    torch.testing.assert_close(*ways, rtol=0.0, atol=1e-12)


def test_wsam_s_difference_is_not_clipped_or_averaged() -> None:
    """By a base that clips to nothing, only η α (g_s − g) moves the weights."""

    class Clips(SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            for p in self.param_groups[0]["params"]:
                p.grad.zero_()
            super().step()

    w = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = WSAM(Clips([w], lr=0.1), rho=0.5, gamma=0.75)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (w**2).sum() / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    assert w.item() == pytest.approx(2.0 - 0.1 * 3.0 * 0.5, abs=1e-12)  # g_s − g = 0.5, α = 3


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (3.0, -2.0, -1.5),
        (1.0, 0.0, 0.0),
        (0.0, 0.0, 0.0),
        (1.0, 1e-39, 0.0),
        (-1e3, 1e-37, 0.0),
        (math.inf, 2.0, math.nan),
        (2.0, math.inf, 0.0),
        (math.inf, math.inf, math.nan),
        (1.0, math.nan, math.nan),
        (math.nan, 1.0, math.nan),
    ],
)
def test_an_overflowing_quotient_is_zero_and_none_hides_what_is_not_finite(a: float, b: float, expected: float) -> None:
    assert ratio(torch.tensor(a), torch.tensor(b)).item() == pytest.approx(expected, nan_ok=True)


def by_hand(name: str, g: torch.Tensor, g_s: torch.Tensor) -> torch.Tensor:
    """Return by what a rate of 1 moves the weights, from formulas of the papers, at the default options."""
    if name == "gsam":
        u = g_s / g_s.norm()
        return g_s - 0.4 * (g - (g @ u) * u)
    if name == "stable_sam":
        return g.norm() / g_s.norm() * g_s
    return 0.2 * g + 0.8 * g_s if name == "gnp" else g + 9.0 * (g_s - g)


@pytest.mark.parametrize("name", ["gsam", "gnp", "wsam", "stable_sam"])
@given(seeds, rhos, rhos, st.booleans())
def test_factors_are_global_and_each_group_has_its_own_radius(
    name: str, seed: int, rho: float, other: float, maximize: bool
) -> None:
    task, clean = Task(seed), Task(seed)
    start = in_a_row(task.parameters)
    sizes = [task.parameters[0].numel(), len(start) - task.parameters[0].numel()]

    def each(*values: float) -> torch.Tensor:
        return torch.cat([torch.full((n,), v, dtype=torch.float64) for n, v in zip(sizes, values, strict=True)])

    signs = each(-1.0 if maximize else 1.0, 1.0)

    def gradient_at(x: torch.Tensor) -> torch.Tensor:
        put(clean, x)
        clean.closure(0)()
        return signs * in_a_row([p.grad for p in clean.parameters if p.grad is not None])

    g = gradient_at(start)
    g_s = gradient_at(start + each(rho, other) * g / g.norm())
    groups = [{"params": task.parameters[:1], "maximize": maximize}, {"params": task.parameters[1:]}]
    optimizer = METHODS[name].build(SGD(groups, lr=1.0), rho=rho)
    optimizer.param_groups[1]["rho"] = other
    optimizer.step(task.closure(0))
    expected = start - by_hand(name, g, g_s)
    torch.testing.assert_close(in_a_row(task.parameters), expected, atol=1e-9, rtol=1e-9)


def test_gnp_counts_a_gradient_that_is_missing_in_a_pass_as_zero() -> None:
    """And so do both forms of WSAM: α or 1 − α of the gradient that is there."""
    makes: list[tuple[Make, float, float]] = [
        (lambda b: GNP(b, 0.1, 0.8), 0.2, 0.8),
        (lambda b: WSAM(b, 0.1, 0.75, decoupled=False), -2.0, 3.0),
        (lambda b: WSAM(b, 0.1, 0.75), -2.0, 3.0),
    ]
    for make, of_clean, of_perturbed in makes:
        for missing in (0, 1):
            p, other = (nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2))
            optimizer = make(SGD([p, other], lr=1.0))
            calls = 0

            def closure(p: nn.Parameter = p, other: nn.Parameter = other, missing: int = missing) -> torch.Tensor:
                nonlocal calls
                p.grad = None if calls == missing else torch.full_like(p, 0.5)
                other.grad = torch.ones_like(other)
                calls += 1
                return torch.zeros(())

            optimizer.step(closure)
            expected = 1.0 - 0.5 * (of_perturbed if missing == 0 else of_clean)
            assert p.tolist() == pytest.approx([expected] * 2, abs=1e-12)


@pytest.mark.parametrize("name", ["gsam", "gnp", "wsam", "stable_sam"])
def test_the_clean_gradient_descends_too_so_ranks_cannot_climb_by_their_own(name: str) -> None:
    with pytest.raises(ValueError, match="takes no sync_ascent: the gradient of its ascent descends too"):
        METHODS[name].build(SGD(Task(0).parameters, 0.1), sync_ascent=False)
