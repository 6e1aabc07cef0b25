"""Figures 1, 3, 4 and 8: what the trained nets are like around their weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lookbehind.lab.cell import Candidate, Cell
from lookbehind.lab.metrics import measured_loss, noisy_accuracy_at, robustness, sharpness_at
from lookbehind.lab.parts import Declaration, Item, Lines, Point, Scatter, Series
from lookbehind.paper import methods, notes
from lookbehind.paper.methods import STYLES, named
from lookbehind.paper.workloads import RULES, SCALES, Pair, Rule, figure_pairs, noisy, sharpness

MEASURED = (
    "Sharpness is measured by one ascent step on all training images without augmentation (with noisy labels, where "
    "there are), in minibatches of 128 (125 at scale cpu), batch norm in eval mode; the paper does not say how. Of one "
    "step it is a lower bound and can be negative."
)
FLATTEST = "Of each method and ρ the setting (k, α) with the lowest sharpness at the largest radius is shown."


def competing(pair: Pair, rule: Rule, rhos: Sequence[float]) -> dict[str, tuple[Candidate, ...]]:
    """Return the four methods of the figures with all their settings at some ρ."""
    return {
        "SAM": methods.sam(pair, rule, rhos),
        "Multistep": methods.multistep(pair, rule, rhos, pair.ks),
        "Lookahead": methods.lookahead(pair, rule, rhos, pair.ks, pair.alphas),
        "Lookbehind": methods.lookbehind(pair, rule, rhos, pair.ks, pair.alphas),
    }


def shades(n: int) -> tuple[float, ...]:
    """Return n shades, the last full."""
    return tuple((i + 1) / n for i in range(n))


def _figure1(scale: str) -> Declaration:
    pair, settings = figure_pairs(scale, thin=True)[0], sharpness(scale, "sam")
    flattest, near = sharpness_at(settings, settings.radii[-1]), sharpness_at(settings, settings.radii[0])
    rhos = pair.sam.tuned
    points = tuple(
        Point(
            f"{named(method, 'sam')}, ρ={rho:g}",
            Cell(candidates, measured_loss(settings), flattest),
            Cell(candidates, near, flattest),
            replace(STYLES[method], shade=shade),
        )
        for rho, shade in zip(rhos, shades(len(rhos)), strict=True)
        for method, candidates in competing(pair, "sam", (rho,)).items()
    )
    figure = Scatter(pair.title, "training loss", f"m-sharpness at r = {settings.radii[0]:g}", points)
    said = (FLATTEST, "These are the nets of Figure 3; the paper does not say which k and α it shows.")
    loss = "The training loss is that of the finished net in eval mode on the same images."
    return Declaration((figure,), (*said, loss, MEASURED, notes.THIN, notes.BATCH_NORM), across=1)


def _over_radii(scale: str, rule: Rule) -> Lines:
    pair, settings = figure_pairs(scale, thin=True)[0], sharpness(scale, rule)
    flattest = sharpness_at(settings, settings.radii[-1])
    rhos = pair.radii(rule).tuned
    series = tuple(
        Series(
            f"{named(method, rule)}, ρ={rho:g}",
            settings.radii,
            tuple(Cell(candidates, sharpness_at(settings, radius), flattest) for radius in settings.radii),
            replace(STYLES[method], shade=shade),
        )
        for method in STYLES
        for rho, shade in zip(rhos, shades(len(rhos)), strict=True)
        for candidates in [competing(pair, rule, (rho,))[method]]
    )
    return Lines(pair.title, "radius r", f"m-sharpness of {rule.upper()}'s neighbourhood", series)


def _figure3(scale: str) -> Declaration:
    radii = "At scale cpu r goes to 0.5: a net of 24,000 weights is far from any minimum at r = 5."
    return Declaration(
        (_over_radii(scale, "sam"),), (FLATTEST, MEASURED, radii, notes.THIN, notes.BATCH_NORM), across=1
    )


def _figure8(scale: str) -> Declaration:
    radii = "At scale cpu r goes to 3. ASAM's η is 0 in training, as in the published scripts, and in measuring."
    return Declaration(
        (_over_radii(scale, "asam"),), (FLATTEST, MEASURED, radii, notes.THIN, notes.BATCH_NORM), across=1
    )


def _robust(scale: str, pair: Pair, rule: Rule) -> Lines:
    settings, radii = noisy(scale, pair), pair.radii(rule)
    grid = {**competing(pair, rule, (radii.default,)), "SAM": methods.sam(pair, rule, radii.wide)}
    series = tuple(
        Series(
            named(method, rule),
            settings.sigmas,
            tuple(Cell(grid[method], noisy_accuracy_at(settings, s), robustness(settings)) for s in settings.sigmas),
            STYLES[method],
        )
        for method in STYLES
    )
    return Lines(f"{pair.title}, {rule.upper()}", "noise σ", "test accuracy (%)", series)


def _figure4(scale: str) -> Declaration:
    parts = tuple(_robust(scale, pair, rule) for pair in figure_pairs(scale, thin=True) for rule in RULES)
    said = (
        "The paper does not say its σ: 0 to 0.5 here. Noise is on all parameters, batch norm's too; batch-norm "
        "statistics are then averaged over one pass through the training images.",
        "Of each method the setting of the best accuracy, mean over all σ, is shown; SAM and ASAM choose ρ so too.",
        "Mean and standard deviation are over seeds and draws: 10 draws a seed, 3 at scale cpu and on ImageNet.",
        "At scale cpu k = 2 and α = 0.8 on Fashion-MNIST.",
        notes.THIN,
        notes.BATCH_NORM,
    )
    return Declaration(parts, said)


SHARPNESS = (
    Item("figure1", "Loss against sharpness", SCALES, _figure1),
    Item("figure3", "Sharpness over radii, SAM", SCALES, _figure3),
    Item("figure4", "Robustness against noisy weights", SCALES, _figure4),
    Item("figure8", "Sharpness over radii, ASAM", SCALES, _figure8),
)
