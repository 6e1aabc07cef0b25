"""The comparison as a declaration: for each workload one table of methods and controls, by the lab's classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from lookbehind.lab import Candidate, Cell, NoiseSettings, Row, SharpnessSettings, Style, Table, Workload, grid
from lookbehind.lab.budget import at_radius, at_rate, longer
from lookbehind.lab.metrics import (
    gradient_evaluations,
    last_test_accuracy,
    measured_loss,
    robustness,
    seconds_of_training,
    sharpness_at,
)

SIGMA = 0.4
QUICK = 6  # epochs
DIGITS = Workload(
    dataset="digits",
    model="convnet",
    train=1000,
    epochs=20,
    batch=64,
    weight_decay=5e-4,
    schedule="cosine",
    channels_last=True,
)


class Labels(NamedTuple):
    """Names of a workload, in a title and in a sentence, and of the digits the share of labels that are drawn anew."""

    title: str
    where: str
    noise: float = 0.0


LABELS = {
    "noisy": Labels("Digits, 40 % of training labels drawn anew", "With noisy labels", 0.4),
    "clean": Labels("Digits, clean labels", "With clean labels"),
}


class Entry(NamedTuple):
    """A row of the table: its name and its look. Controls are grey and differ by marker."""

    label: str
    style: Style

    @property
    def control(self) -> bool:
        """Return whether it is a control."""
        return self.style.colour == "grey"


METHODS = {
    "sgd": Entry("SGD", Style("black", "circle")),
    "sam": Entry("SAM", Style("blue", "square")),
    "multistep": Entry("Multistep-SAM", Style("orange", "triangle")),
    "lookahead": Entry("Lookahead-SAM", Style("green", "down")),
    "lookbehind": Entry("Lookbehind-SAM", Style("vermillion", "diamond")),
    "lookbehind-adaptive": Entry("Lookbehind-SAM, adaptive α", Style("purple", "plus")),
    "sam-radius": Entry("SAM at radius k·ρ", Style("grey", "square")),
    "sam-rate": Entry("SAM at rate α·k·η", Style("grey", "cross")),
    "sgd-longer": Entry("SGD, longer", Style("grey", "circle")),
    "sam-longer": Entry("SAM, longer", Style("grey", "star")),
}

# Columns. Between LOSS and GRADIENTS there is one for each radius.
TEST, NOISY, LOSS, GRADIENTS, SECONDS = 0, 1, 2, -2, -1
HEADS = ("test\naccuracy %", "with noisy\nweights %", "training\nloss", "gradients", "seconds")


@dataclass(frozen=True)
class Comparison:
    """Methods on one workload, with settings that they share.

    Args:
        labels: "noisy" or "clean", those of the digits; or the title of a study's workload.
        workload: what is trained. "longer" trains it for more epochs.
        methods: names in ``METHODS``.
        seeds: how many.
        rho: neighbourhood size ρ.
        k: inner steps.
        alpha: outer step size.
        radii: at which m-sharpness is measured.

    """

    labels: str
    workload: Workload
    methods: tuple[str, ...]
    seeds: int
    rho: float
    k: int
    alpha: float
    radii: tuple[float, ...]

    @property
    def names(self) -> Labels:
        """Its names."""
        return LABELS.get(self.labels) or Labels(self.labels, self.labels)

    @cached_property
    def candidates(self) -> dict[str, Candidate]:
        """The runs of each method, one a seed. Batch-norm statistics follow unperturbed passes, for all alike."""

        def one(kind: str, **settings: Any) -> Candidate:
            return grid(self.workload, kind, range(self.seeds), **settings)[0]

        single = {"perturbation": "sam", "rho": self.rho, "unperturbed_statistics": True}
        several = {**single, "k": self.k}
        sgd, sam = one("base"), one("sam", **single)
        lookbehind = one("lookbehind", **several, alpha=self.alpha)
        found = {
            "sgd": sgd,
            "sam": sam,
            "multistep": one("multistep", **several, gather="last"),
            "lookahead": one("lookahead", **several, alpha=self.alpha),
            "lookbehind": lookbehind,
            "lookbehind-adaptive": one("lookbehind", **several, alpha="adaptive"),
            "sam-radius": at_radius(lookbehind),
            "sam-rate": at_rate(lookbehind),
            "sgd-longer": longer(lookbehind, sgd),
            "sam-longer": longer(lookbehind, sam),
        }
        return {method: found[method] for method in self.methods}

    @property
    def table(self) -> Table:
        """The declared table. Of m-sharpness m is 125: the digits' 1,000 training images are 8 minibatches."""
        sharpness = SharpnessSettings(radii=self.radii, m=125)
        measured = [measured_loss(sharpness), *(sharpness_at(sharpness, radius) for radius in self.radii)]
        metrics = (
            last_test_accuracy(),
            robustness(NoiseSettings(sigmas=(SIGMA,), draws=5)),
            *(replace(metric, digits=3) for metric in measured),
            gradient_evaluations(),
            seconds_of_training(),
        )
        title = (
            f"{self.names.title} · {self.seeds} seed{'s' * (self.seeds > 1)} · {self.workload.epochs} epochs · "
            f"ρ {self.rho:g}, k {self.k}, α {self.alpha:g} for all, not tuned"
        )
        heads = (*HEADS[:GRADIENTS], *(f"sharpness\nr = {radius:g}" for radius in self.radii), *HEADS[GRADIENTS:])
        rows = tuple(
            Row(METHODS[method].label, tuple(Cell((candidate,), metric, partial=True) for metric in metrics))
            for method, candidate in self.candidates.items()
        )
        return Table(title, heads, rows)


def digits(labels: str) -> Workload:
    """Return the workload of the digits with some labels."""
    return DIGITS.model_copy(update={"noise": LABELS[labels].noise})


def quick(workload: Workload) -> Workload:
    """Return a workload for a few epochs."""
    return workload.for_epochs(min(QUICK, workload.epochs))
