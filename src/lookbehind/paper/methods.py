"""The methods of section 4.1 as candidates: one for each setting of a grid, each with its runs over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from lookbehind.lab.cell import Candidate
from lookbehind.lab.grids import grid
from lookbehind.lab.parts import Style
from lookbehind.paper.workloads import Pair, Rule

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


def sgd(pair: Pair) -> tuple[Candidate, ...]:
    """Return SGD."""
    return grid(pair.workload, "base", pair.seeds)


def lookahead_sgd(pair: Pair, ks: Sequence[int], alphas: Sequence[float]) -> tuple[Candidate, ...]:
    """Return Lookahead around SGD."""
    return grid(pair.workload, "lookahead", pair.seeds, k=ks, alpha=alphas)


def sam(pair: Pair, rule: Rule, rhos: Sequence[float]) -> tuple[Candidate, ...]:
    """Return SAM or ASAM."""
    return grid(pair.workload, "sam", pair.seeds, perturbation=rule, rho=rhos)


def multistep(
    pair: Pair,
    rule: Rule,
    rhos: Sequence[float],
    ks: Sequence[int],
    gather: Literal["last", "mean"] = "last",
) -> tuple[Candidate, ...]:
    """Return Multistep-SAM, which descends with the last gradient, or the mean of them (Kim et al., 2023)."""
    return grid(pair.workload, "multistep", pair.seeds, perturbation=rule, rho=rhos, k=ks, gather=gather)


def lookahead(
    pair: Pair, rule: Rule, rhos: Sequence[float], ks: Sequence[int], alphas: Sequence[float]
) -> tuple[Candidate, ...]:
    """Return Lookahead around SAM (Algorithm 2)."""
    return grid(pair.workload, "lookahead", pair.seeds, perturbation=rule, rho=rhos, k=ks, alpha=alphas)


def lookbehind(
    pair: Pair,
    rule: Rule,
    rhos: Sequence[float],
    ks: Sequence[int],
    alphas: Sequence[float | Literal["adaptive"]],
    divided: bool = False,
) -> tuple[Candidate, ...]:
    """Return Lookbehind (Algorithm 1)."""
    return grid(
        pair.workload, "lookbehind", pair.seeds, perturbation=rule, rho=rhos, k=ks, alpha=alphas, divided=divided
    )
