"""Figures 5, 6, 7, 9, 11, 12, 15 and 16: accuracy over k, α and ρ, and α* over training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lookbehind.lab.cell import Candidate, Cell
from lookbehind.lab.metrics import alpha_at
from lookbehind.lab.parts import Declaration, Heatmap, Item, Lines, Series, Style
from lookbehind.paper import methods, notes
from lookbehind.paper.methods import STYLES, named
from lookbehind.paper.sharpness import shades
from lookbehind.paper.workloads import RULES, SCALES, Pair, Rule, figure_pairs

ACCURACY = "test accuracy (%)"
BEST_ALPHA = "At each point the α of the best mean test accuracy is shown."
BASELINE = "The baseline has the default ρ."


def baseline(pair: Pair, rule: Rule) -> Cell:
    """Return SAM or ASAM at the default ρ."""
    return Cell(methods.sam(pair, rule, (pair.radii(rule).default,)))


def at(pair: Pair, rule: Rule, method: str, rho: float, k: int) -> Cell:
    """Return a method at ρ and k, with its best α."""
    grid: dict[str, Callable[[], tuple[Candidate, ...]]] = {
        "Multistep": lambda: methods.multistep(pair, rule, (rho,), (k,)),
        "Lookahead": lambda: methods.lookahead(pair, rule, (rho,), (k,), pair.alphas),
        "Lookbehind": lambda: methods.lookbehind(pair, rule, (rho,), (k,), pair.alphas),
    }
    return Cell(grid[method]())


def _over_k(pair: Pair, rule: Rule) -> Lines:
    rho, ks = pair.radii(rule).default, tuple(map(float, pair.ks))
    series = tuple(
        Series(named(method, rule), ks, tuple(at(pair, rule, method, rho, k) for k in pair.ks), STYLES[method])
        for method in ("Multistep", "Lookahead", "Lookbehind")
    )
    title = f"{pair.title}, {rule.upper()}"
    return Lines(title, "inner steps k", ACCURACY, series, baseline(pair, rule), named("SAM", rule))


def _figure5(scale: str) -> Declaration:
    shown = figure_pairs(scale)[0:3:2] if scale == "paper" else figure_pairs(scale)[:1]
    parts = tuple(_over_k(pair, rule) for pair in shown for rule in RULES)
    second = "The paper's second pair is CIFAR-100 with ResNet-50; at scales cpu and smoke there is one pair."
    return Declaration(parts, (BEST_ALPHA, BASELINE, second, notes.BATCH_NORM))


def _over_k_and_alpha(pair: Pair, rule: Rule, kind: str) -> Heatmap:
    make = methods.lookbehind if kind == "Lookbehind" else methods.lookahead
    rho = pair.radii(rule).default
    cells = tuple(
        tuple(Cell(make(pair, rule, (rho,), (k,), (alpha,))) for k in pair.ks) for alpha in reversed(pair.alphas)
    )
    title = f"{pair.title}, {named(kind, rule)}"
    return Heatmap(
        title, "k", tuple(map(float, pair.ks)), "α", tuple(reversed(pair.alphas)), cells, baseline(pair, rule)
    )


HEATMAP = "A cell is N/A if any seed of it diverged, as in the paper. Blue is better than the baseline, red worse."


def _figure6(scale: str) -> Declaration:
    parts = tuple(_over_k_and_alpha(figure_pairs(scale)[0], rule, "Lookbehind") for rule in RULES)
    return Declaration(parts, (HEATMAP, BASELINE, notes.BATCH_NORM))


def _figure15(scale: str) -> Declaration:
    parts = tuple(_over_k_and_alpha(pair, rule, "Lookbehind") for pair in figure_pairs(scale) for rule in RULES)
    return Declaration(parts, (HEATMAP, BASELINE, notes.BATCH_NORM))


def _figure16(scale: str) -> Declaration:
    parts = tuple(_over_k_and_alpha(pair, rule, "Lookahead") for pair in figure_pairs(scale) for rule in RULES)
    return Declaration(parts, (HEATMAP, BASELINE, notes.BATCH_NORM))


def _over_rho(pair: Pair, rule: Rule, method: str) -> Lines:
    rhos = pair.radii(rule).wide
    plain = tuple(Cell(methods.sam(pair, rule, (rho,))) for rho in rhos)
    series = tuple(
        Series(
            f"{named(method, rule)}, k={k}",
            rhos,
            tuple(at(pair, rule, method, rho, k) for rho in rhos),
            replace(STYLES[method], shade=shade),
        )
        for k, shade in zip(pair.ks, shades(len(pair.ks)), strict=True)
    )
    single = Series(named("SAM", rule), rhos, plain, STYLES["SAM"])
    return Lines(f"{pair.title}, {named(method, rule)}", "ρ", ACCURACY, (single, *series))


RHO = "The text names ρ up to ten times the default; those of Figure 4 are taken."


def _figure_over_rho(scale: str, rule: Rule) -> Declaration:
    pair = figure_pairs(scale, thin=True)[0]
    parts = tuple(_over_rho(pair, rule, method) for method in ("Multistep", "Lookahead", "Lookbehind"))
    return Declaration(parts, (BEST_ALPHA, RHO, notes.THIN, notes.BATCH_NORM), across=3)


def _figure7(scale: str) -> Declaration:
    return _figure_over_rho(scale, "sam")


def _figure9(scale: str) -> Declaration:
    return _figure_over_rho(scale, "asam")


def _within_rho(pair: Pair, rule: Rule) -> Lines:
    rho, ks = pair.radii(rule).default, tuple(map(float, pair.ks))
    name = named("Lookbehind", rule)
    lines = (
        (
            "ρ / k a step, α = 1",
            Style("sky", "square"),
            lambda k: methods.lookbehind(pair, rule, (rho,), (k,), (1.0,), divided=True),
        ),
        ("ρ a step, best α", STYLES["Lookbehind"], lambda k: methods.lookbehind(pair, rule, (rho,), (k,), pair.alphas)),
        (
            "ρ a step, adaptive α",
            Style("purple", "square", filled=False),
            lambda k: methods.lookbehind(pair, rule, (rho,), (k,), ("adaptive",)),
        ),
    )
    series = tuple(
        Series(f"{name}, {label}", ks, tuple(Cell(make(k)) for k in pair.ks), style) for label, style, make in lines
    )
    return Lines(f"{pair.title}, {name}", "inner steps k", ACCURACY, series)


def _figure11(scale: str) -> Declaration:
    parts = tuple(_within_rho(figure_pairs(scale)[0], rule) for rule in RULES)
    step = "Within ρ: k ascents of ρ / k, descents of η, and no interpolation, which is α = 1."
    return Declaration(parts, (step, BEST_ALPHA, notes.ADAPTIVE, notes.BATCH_NORM))


def _alpha_over_epochs(pair: Pair, rule: Rule) -> Lines:
    epochs = range(1, pair.workload.epochs + 1)
    series = tuple(
        Series(
            f"k={k}",
            tuple(map(float, epochs)),
            tuple(Cell(candidates, alpha_at(epoch)) for epoch in epochs),
            Style("vermillion", "none", shade=shade),
        )
        for k, shade in zip(pair.ks, shades(len(pair.ks)), strict=True)
        for candidates in [methods.lookbehind(pair, rule, (pair.radii(rule).default,), (k,), ("adaptive",))]
    )
    return Lines(f"{pair.title}, {named('Lookbehind', rule)}", "epoch", "mean α* of the epoch", series)


def _figure12(scale: str) -> Declaration:
    parts = tuple(_alpha_over_epochs(figure_pairs(scale)[0], rule) for rule in RULES)
    return Declaration(
        parts, ("The paper does not say which net: ResNet-34 on CIFAR-10 here.", notes.ADAPTIVE, notes.BATCH_NORM)
    )


SENSITIVITY = (
    Item("figure5", "Sensitivity to k", SCALES, _figure5),
    Item("figure6", "Sensitivity of Lookbehind to α and k", SCALES, _figure6),
    Item("figure7", "Sensitivity to ρ, SAM", SCALES, _figure7),
    Item("figure9", "Sensitivity to ρ, ASAM", SCALES, _figure9),
    Item("figure11", "Staying within ρ, or going k·ρ far", SCALES, _figure11),
    Item("figure12", "Adaptive α over training", SCALES, _figure12),
    Item("figure15", "Sensitivity of Lookbehind to α and k, all pairs", SCALES, _figure15),
    Item("figure16", "Sensitivity of Lookahead to α and k, all pairs", SCALES, _figure16),
)
