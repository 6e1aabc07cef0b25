"""The methods of section 4.1 as candidates: one for each setting of a grid, each with its runs over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from lookbehind.lab.cell import Candidate
from lookbehind.lab.method import Method
from lookbehind.lab.parts import Style
from lookbehind.lab.run import Run
from lookbehind.paper.workloads import Pair, Rule

SYMBOLS = {"rho": "ρ", "k": "k", "alpha": "α"}
# Markers are those of Figure 1.
STYLES = {
    "SAM": Style("blue", "circle"),
    "Multistep": Style("orange", "circle", filled=False),
    "Lookahead": Style("green", "triangle", filled=False),
    "Lookbehind": Style("vermillion", "triangle"),
}


def named(method: str, rule: Rule) -> str:
    """Return a method's name in the paper.

    Example:
        >>> named("SAM", "asam"), named("Lookbehind", "sam")
        ('ASAM', 'Lookbehind-SAM')

    """
    return rule.upper() if method == "SAM" else f"{method}-{rule.upper()}"


def candidate(pair: Pair, method: Method, shown: Sequence[str] = ()) -> Candidate:
    """Return one setting of a method, over the pair's seeds; ``shown`` names what its label tells."""
    label = ", ".join(f"{SYMBOLS[name]}={_written(getattr(method, name))}" for name in shown)
    return Candidate(label, tuple(Run(workload=pair.workload, method=method, seed=seed) for seed in pair.seeds))


def _written(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def sgd(pair: Pair) -> tuple[Candidate, ...]:
    """Return SGD."""
    return (candidate(pair, Method(kind="base")),)


def lookahead_sgd(pair: Pair, ks: Sequence[int], alphas: Sequence[float]) -> tuple[Candidate, ...]:
    """Return Lookahead around SGD."""
    return tuple(
        candidate(pair, Method(kind="lookahead", k=k, alpha=alpha), ("k", "alpha")) for k in ks for alpha in alphas
    )


def sam(pair: Pair, rule: Rule, rhos: Sequence[float]) -> tuple[Candidate, ...]:
    """Return SAM or ASAM."""
    return tuple(candidate(pair, Method(kind="sam", perturbation=rule, rho=rho), ("rho",)) for rho in rhos)


def multistep(
    pair: Pair,
    rule: Rule,
    rhos: Sequence[float],
    ks: Sequence[int],
    gather: Literal["last", "mean"] = "last",
) -> tuple[Candidate, ...]:
    """Return Multistep-SAM, which descends with the last gradient, or the mean of them (Kim et al., 2023)."""
    return tuple(
        candidate(pair, Method(kind="multistep", perturbation=rule, rho=rho, k=k, gather=gather), ("rho", "k"))
        for rho in rhos
        for k in ks
    )


def lookahead(
    pair: Pair, rule: Rule, rhos: Sequence[float], ks: Sequence[int], alphas: Sequence[float]
) -> tuple[Candidate, ...]:
    """Return Lookahead around SAM (Algorithm 2)."""
    return _interpolated(pair, "lookahead", rule, rhos, ks, alphas)


def lookbehind(
    pair: Pair,
    rule: Rule,
    rhos: Sequence[float],
    ks: Sequence[int],
    alphas: Sequence[float | Literal["adaptive"]],
    divided: bool = False,
) -> tuple[Candidate, ...]:
    """Return Lookbehind (Algorithm 1)."""
    return _interpolated(pair, "lookbehind", rule, rhos, ks, alphas, divided=divided)


def _interpolated(
    pair: Pair,
    kind: Literal["lookahead", "lookbehind"],
    rule: Rule,
    rhos: Sequence[float],
    ks: Sequence[int],
    alphas: Sequence[Any],
    divided: bool = False,
) -> tuple[Candidate, ...]:
    return tuple(
        candidate(
            pair,
            Method(kind=kind, perturbation=rule, rho=rho, k=k, alpha=alpha, divided=divided),
            ("rho", "k", "alpha"),
        )
        for rho in rhos
        for k in ks
        for alpha in alphas
    )
