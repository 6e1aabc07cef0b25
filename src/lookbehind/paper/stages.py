"""Figure 10: Lookbehind for a part of training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from lookbehind.lab.cell import Candidate, Derived
from lookbehind.lab.method import Method
from lookbehind.lab.parts import Declaration, Item, Lines, Series
from lookbehind.lab.run import Run
from lookbehind.paper import notes
from lookbehind.paper.methods import STYLES, named
from lookbehind.paper.sensitivity import ACCURACY, at, baseline
from lookbehind.paper.sharpness import shades
from lookbehind.paper.workloads import RULES, SCALES, Pair, Rule, figure_pairs

First = Literal["SAM", "Lookbehind"]


@dataclass(frozen=True)
class Switched:
    """From the winning Lookbehind to runs that begin with one method and go on with the other."""

    first: First
    epoch: int  # epochs of the first

    def __call__(self, winner: Candidate) -> Candidate:
        """Return these runs. At the ends of training they are those of one method."""
        return Candidate(f"{winner.label}, switched after {self.epoch} epochs", tuple(map(self._run, winner.runs)))

    def _run(self, run: Run) -> Run:
        single = Method(kind="sam", perturbation=run.method.perturbation, rho=run.method.rho)
        before, after = (single, run.method) if self.first == "SAM" else (run.method, single)
        if self.epoch in (0, run.workload.epochs):
            return run.model_copy(update={"method": after if self.epoch == 0 else before})
        return Run(workload=run.workload, method=before, seed=run.seed, later=after, switch=self.epoch)


def _over_switches(pair: Pair, rule: Rule, first: First) -> Lines:
    epochs = tuple(round(pair.workload.epochs * quarter / 4) for quarter in range(5))
    epochs = tuple(dict.fromkeys(epochs))
    series = tuple(
        Series(
            f"k={k}",
            tuple(map(float, epochs)),
            tuple(Derived((best,), Switched(first, epoch)) for epoch in epochs),
            replace(STYLES["Lookbehind"], shade=shade),
        )
        for k, shade in zip(pair.ks, shades(len(pair.ks)), strict=True)
        for best in [at(pair, rule, "Lookbehind", pair.radii(rule).default, k)]
    )
    names = [named("SAM", rule), named("Lookbehind", rule)]
    title = " to ".join(names if first == "SAM" else reversed(names))
    return Lines(f"{pair.title}, {title}", "epoch of the switch", ACCURACY, series, baseline(pair, rule), names[0])


def _figure10(scale: str) -> Declaration:
    firsts: tuple[First, First] = ("SAM", "Lookbehind")
    parts = tuple(_over_switches(figure_pairs(scale, thin=True)[0], rule, first) for first in firsts for rule in RULES)
    said = (
        "The paper does not say when it switches: here after 0, ¼, ½, ¾ and all of the epochs.",
        "For each k the α of the best mean test accuracy of a whole training with Lookbehind is taken.",
        "Momentum goes on across the switch.",
        notes.THIN,
        notes.BATCH_NORM,
    )
    return Declaration(parts, said)


STAGES = (Item("figure10", "Switching between SAM and Lookbehind", SCALES, _figure10),)
