"""Runs of a comparison, their rows, and their numbers for the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from lookbehind import lab
from lookbehind.lab import Measurement, Method, NoiseSettings, SharpnessSettings, Store, Workload
from lookbehind.lab.estimate import gradients

Labels = str  # "noisy" and "clean", those of the digits; or the title of a study's workload
NOISE = {"noisy": 0.4, "clean": 0.0}  # fraction of the training labels drawn anew
TITLES = {"noisy": "Digits, 40 % of training labels drawn anew", "clean": "Digits, clean labels"}
SIGMA = 0.4
QUICK = 6  # epochs
DIGITS = Workload(
    dataset="digits", model="convnet", train=1000, epochs=20, batch=64, weight_decay=5e-4, schedule="cosine"
)


class Run(BaseModel):
    """A row's name and seed, and the settings that all rows share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    labels: Labels
    seed: int
    rho: float
    k: int
    alpha: float
    radii: tuple[float, ...]
    epochs: int
    workload: Workload | None = None  # of a study; None: the digits

    @property
    def trained(self) -> lab.Run:
        """The run of the lab. Batch-norm statistics follow unperturbed passes, for all methods alike."""
        workload = self.workload or DIGITS.model_copy(update={"noise": NOISE[self.labels]})
        return lab.Run(workload=workload.for_epochs(self._epochs()), method=self._method(), seed=self.seed)

    @property
    def measurements(self) -> tuple[Measurement, Measurement]:
        """125-sharpness, for which 1,000 training images are 8 minibatches, and accuracy with noisy weights."""
        return SharpnessSettings(radii=self.radii, m=125), NoiseSettings(sigmas=(SIGMA,), draws=5)

    @property
    def gradients(self) -> int:
        """Return how many gradients the run evaluates."""
        return gradients(self.trained)

    def _epochs(self) -> int:
        """Lookbehind spends k + 1 gradients on a minibatch, SGD 1 and SAM 2: 'longer' makes up for it in epochs."""
        if self.method == "sgd-longer":
            return self.epochs * (self.k + 1)
        if self.method == "sam-longer":
            return round(self.epochs * (self.k + 1) / 2)
        return self.epochs

    def _method(self) -> Method:
        sam = Method(kind="sam", perturbation="sam", rho=self.rho, unperturbed_statistics=True)
        several = {**sam.model_dump(exclude_defaults=True), "k": self.k}
        match self.method:
            case "sgd" | "sgd-longer":
                return Method(kind="base")
            case "sam" | "sam-longer":
                return sam
            case "sam-rate":
                return sam.model_copy(update={"rate": self.alpha * self.k})
            case "sam-radius":
                return sam.model_copy(update={"rho": self.k * self.rho})
            case "multistep":
                return Method.model_validate({**several, "kind": "multistep", "gather": "last"})
            case "lookahead":
                return Method.model_validate({**several, "kind": "lookahead", "alpha": self.alpha})
            case "lookbehind":
                return Method.model_validate({**several, "kind": "lookbehind", "alpha": self.alpha})
            case "lookbehind-adaptive":
                return Method.model_validate({**several, "kind": "lookbehind", "alpha": "adaptive"})
        raise ValueError(f"method is {self.method!r}; allowed are {', '.join(METHODS)}")


class Result(BaseModel):
    """Result of a run. Numbers that are not finite, as of a diverged run, are absent."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    test_accuracy: float
    validation_accuracy: float
    noisy_accuracy: float | None
    train_loss: float | None
    sharpness: tuple[float | None, ...]  # one for each radius
    gradients: int
    seconds: float
    diverged: bool
    losses: tuple[float, ...]  # of each epoch


@dataclass(frozen=True)
class Entry:
    """A row of the table."""

    label: str
    what: str
    control: bool = False


METHODS = {
    "sgd": Entry("SGD", "SGD with momentum"),
    "sam": Entry("SAM", "one ascent; 2 gradients a step"),
    "multistep": Entry("Multistep-SAM", "k ascents, descent with the last gradient; k + 1 gradients a step"),
    "lookahead": Entry("Lookahead-SAM", "SAM inside Lookahead; 2 gradients a step"),
    "lookbehind": Entry("Lookbehind-SAM", "k ascents, k descents, interpolation by α; k + 1 gradients a step"),
    "lookbehind-adaptive": Entry("Lookbehind-SAM, adaptive α", "the same with α* of eq. 6-7"),
    "sam-radius": Entry("SAM at radius k·ρ", "does a larger ρ do the same?", control=True),
    "sam-rate": Entry("SAM at rate α·k·η", "does a larger step do the same?", control=True),
    "sgd-longer": Entry("SGD, longer", "SGD for as many gradients as Lookbehind", control=True),
    "sam-longer": Entry("SAM, longer", "SAM for as many gradients as Lookbehind", control=True),
}


def plan(
    methods: Sequence[str], workloads: Mapping[str, Workload], seeds: int, quick: bool = False, **settings: object
) -> list[Run]:
    """Return the runs of a comparison, seed by seed, so that an interrupted one has whole seeds."""
    shared = [
        {
            "labels": name,
            "epochs": min(QUICK, workload.epochs) if quick else workload.epochs,
            "workload": None if name in NOISE else workload,
        }
        for name, workload in workloads.items()
    ]
    return [
        Run.model_validate({"method": method, "seed": seed, **each, **settings})
        for seed in range(seeds)
        for each in shared
        for method in methods
    ]


def result_of(run: Run, store: Store) -> Result | None:
    """Return what a run gave, or None if it or one of its measurements is missing."""
    result = store.result(run.trained)
    if result is None:
        return None
    diverged = result.status == "diverged"
    sharpness, noisy = (store.measured(run.trained, measurement) for measurement in run.measurements)
    if not diverged and (sharpness is None or noisy is None):
        return None
    last = result.last
    return Result(
        test_accuracy=last.test,
        validation_accuracy=last.validation or 0.0,
        noisy_accuracy=None if noisy is None else noisy["means"][0],
        train_loss=None if sharpness is None else sharpness["loss"],
        sharpness=tuple(sharpness["values"]) if sharpness else (None,) * len(run.radii),
        gradients=round(result.gradients),
        seconds=result.seconds,
        diverged=diverged,
        losses=tuple(record.loss for record in result.records if record.loss is not None),
    )
