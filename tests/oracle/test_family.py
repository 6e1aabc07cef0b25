"""Every method of ``METHODS`` that has an oracle in this folder, under its short name: ``tests/oracle/<name>.py``.

The file has ``Oracle(gradient, base, epsilon, **options)`` with ``step(phi, minibatches)``, and ``VARIANTS``, the
options to try. ``epsilon(phi, g)`` is ρ times the unit step of the rule. ``plain(phi, minibatches)``, if it is there,
is a step that does not climb. Weights w agree with v when |w − v| ≤ 1e-10 (1 + |v|), after every one of the steps.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lookbehind import METHODS, Every, FollowsRate, Window
from tests.oracle import algorithms as paper
from tests.oracle.test_oracle import BASES, PROBLEMS, RHO, RULES

STEPS = 22
FAMILY = [name for name in METHODS if (Path(__file__).parent / f"{name}.py").exists()]
CASES = [(name, options) for name in FAMILY for options in import_module(f"tests.oracle.{name}").VARIANTS]
every_case = pytest.mark.parametrize(("name", "options"), CASES, ids=lambda value: str(value).replace(" ", ""))


def compare(
    name: str,
    options: dict[str, Any],
    base: str = "momentum",
    problem: str = "tanh net",
    rule: str = "sam",
    when: Any = None,
    climbs: Callable[[int], float] = lambda t: 1.0,
    **more: Any,
) -> None:
    """Take the steps by hand and with the package. ``climbs`` is the factor of the radius that ``when`` stands for."""
    record, oracle_of = METHODS[name], import_module(f"tests.oracle.{name}").Oracle
    made = PROBLEMS[problem](np.random.default_rng(0))
    by_hand, in_torch = BASES[base]
    calls: list[int] = []

    def gradient(phi: paper.Weights, d: Any) -> paper.Weights:
        calls.append(1)
        return made.numpy.gradient(phi, d)

    factor = 1.0

    def epsilon(phi: paper.Weights, g: paper.Weights) -> paper.Weights:
        return RULES[rule][0](RHO * factor, made)(phi, g)

    oracle = oracle_of(gradient, by_hand(), epsilon, **options)
    phi = made.start
    params = [torch.nn.Parameter(torch.as_tensor(w)) for w in made.start]
    optimizer = record.build(
        in_torch([{"params": params}]),
        rho=RHO,
        perturbation=RULES[rule][1](list(zip(made.names, params, strict=True))),
        **options,
        **({"when": when} if when is not None else {}),
        **more,
    )
    torch_calls: list[int] = []

    def closure_of(d: Any) -> Callable[[], torch.Tensor]:
        def closure() -> torch.Tensor:
            torch_calls.append(1)
            optimizer.zero_grad()
            loss = made.torch_loss(params, d)
            loss.backward()
            return loss

        return closure

    closures_of_a_step = options.get("k", 1) if name == "s2_sam" else record.closures
    for t in range(STEPS):
        minibatches = [made.minibatches[(t * closures_of_a_step + i) % 8] for i in range(closures_of_a_step)]
        factor = climbs(t)
        if factor:
            phi = oracle.step(phi, minibatches)
        elif hasattr(oracle, "plain"):
            phi = oracle.plain(phi, minibatches)
        else:
            phi = oracle.base.step(phi, gradient(phi, minibatches[0]))
        closures = [closure_of(d) for d in minibatches]
        optimizer.step(closures[0] if closures_of_a_step == 1 else closures)
        for w, v in zip(params, phi, strict=True):
            assert np.all(np.abs(w.detach().numpy() - v) <= 1e-10 * (1 + np.abs(v))), f"step {t}"
    assert len(torch_calls) == len(calls)
    if when is None and record.closures == 1:
        assert len(calls) == record.gradients(STEPS, **options)


@every_case
@pytest.mark.parametrize("base", BASES)
def test_with_every_base(name: str, options: dict[str, Any], base: str) -> None:
    compare(name, options, base=base)


@every_case
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("rule", RULES)
def test_with_every_shape(name: str, options: dict[str, Any], problem: str, rule: str) -> None:
    if "perturbation" not in METHODS[name].kind.refuses:
        compare(name, options, problem=problem, rule=rule)


@every_case
@pytest.mark.parametrize(
    ("when", "climbs"),
    [
        (Every(3, radius=2.0), lambda t: 2.0 if t % 3 == 0 else 0.0),
        (Window(first=5, until=15), lambda t: float(5 <= t < 15)),
        (Window(first=0.5, total=STEPS), lambda t: float(t >= 11)),
    ],
    ids=["every", "window", "late"],
)
def test_in_some_steps(name: str, options: dict[str, Any], when: Any, climbs: Callable[[int], float]) -> None:
    if "when" not in METHODS[name].kind.refuses:
        compare(name, options, when=when, climbs=climbs)


@every_case
def test_with_a_radius_that_follows_the_rate(name: str, options: dict[str, Any]) -> None:
    """The rate is 0.05, so ρ_t = 0.25 ρ + (ρ − 0.25 ρ)(0.05 − 0.02)/(0.08 − 0.02) = 0.625 ρ."""
    if "radius" not in METHODS[name].kind.refuses:
        radius = FollowsRate(lr_max=0.08, lr_min=0.02, rho_min=0.25 * RHO)
        compare(name, options, climbs=lambda t: 0.625, radius=radius)
