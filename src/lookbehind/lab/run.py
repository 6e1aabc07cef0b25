"""A run as data: all that decides its numbers, and an address made of it."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Adaptive = Literal["adaptive", "adaptive_per_tensor"]


class Frozen(BaseModel):
    """A value: compared, hashed and written by its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def address(self) -> str:
        """Sixteen digits that stand for the fields.

        What is at its default does not count, nor does the order of fields: a new field whose default is the old
        behaviour moves no address.
        """
        # Python's json writes a number the same way in every version. A copy may hold 1 where the field says 1.0.
        exact = type(self).model_validate(self.model_dump(warnings=False))
        content = json.dumps(exact.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
        return hashlib.sha256(f"{type(self).__name__} {content}".encode()).hexdigest()[:16]


class Method(Frozen):
    """How a step is taken: ``base`` alone, or an optimizer of this package around it."""

    kind: Literal["base", "sam", "multistep", "lookahead", "lookbehind"]
    perturbation: Literal["sam", "asam"] | None = None  # None: Lookahead around the base alone
    rho: NonNegative | None = None
    k: Count | None = None
    alpha: Fraction | Adaptive | None = None
    gather: Literal["last", "mean"] | None = None
    eta: NonNegative = 0.0  # of ASAM; the published scripts pass 0
    divided: bool = False  # ascend by ρ / k (appendix A.2.3)
    rate: Positive = 1.0  # times the workload's learning rate, for the control SAM at α·k·η
    unperturbed_statistics: bool = False  # batch norm; False: running statistics follow every pass, as the paper's code

    @model_validator(mode="after")
    def _complete(self) -> Method:
        needs = {
            "base": set(),
            "sam": {"perturbation", "rho"},
            "multistep": {"perturbation", "rho", "k", "gather"},
            "lookahead": {"k", "alpha"} | ({"rho"} if self.perturbation else set()),
            "lookbehind": {"perturbation", "rho", "k", "alpha"},
        }[self.kind]
        takes = needs | ({"perturbation"} if self.kind == "lookahead" else set())
        for name in ("perturbation", "rho", "k", "alpha", "gather"):
            given = getattr(self, name) is not None
            if given != (name in needs) and not (given and name in takes):
                what = "needs a value" if name in needs else "takes none"
                raise ValueError(f"{name} is {getattr(self, name)!r}; {self.kind} {what}")
        if self.kind == "lookahead" and isinstance(self.alpha, str):
            raise ValueError(f"alpha is {self.alpha!r}; lookahead needs a number")
        if self.divided and self.kind not in ("multistep", "lookbehind"):
            raise ValueError(f"divided is True; only multistep and lookbehind climb k times, {self.kind} does not")
        if self.eta and self.perturbation != "asam":
            raise ValueError(f"eta is {self.eta!r}; only asam takes one")
        return self

    @property
    def gradients(self) -> int:
        """Gradient evaluations of one step on one minibatch."""
        if self.kind in ("multistep", "lookbehind"):
            assert self.k is not None
            return self.k + 1
        return 1 if self.perturbation is None else 2


class Workload(Frozen):
    """Data, model and recipe."""

    dataset: str
    model: str
    size: int | None = None  # of the images
    train: Count | None = None  # number of training images; None: all that are not held out
    validation: int | None = None
    test: int | None = None
    noise: Annotated[float, Field(ge=0, le=1)] = 0.0  # fraction of the training labels drawn anew
    augment: bool = True
    epochs: Count
    batch: Count = 128
    lr: Positive = 0.1
    momentum: NonNegative = 0.9
    weight_decay: NonNegative = 1e-4
    schedule: Literal["steps", "cosine", "constant"] = "steps"
    milestones: tuple[int, ...] = ()  # epochs after which ``steps`` multiplies the learning rate by ``factor``
    factor: Positive = 0.1
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def for_epochs(self, epochs: int) -> Workload:
        """Return the same workload for another number of epochs, milestones in proportion."""
        milestones = tuple(round(m * epochs / self.epochs) for m in self.milestones)
        return self.model_copy(update={"epochs": epochs, "milestones": milestones})


class Run(Frozen):
    """One training run. The seed decides split, label noise, initial weights, order, augmentation and dropout."""

    workload: Workload
    method: Method
    seed: int = 0
    later: Method | None = None  # the method from ``switch`` epochs on (Figure 10)
    switch: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _switches(self) -> Run:
        if (self.later is None) != (self.switch is None):
            raise ValueError("later and switch belong together: a method, and the epochs before it")
        if self.switch is not None and self.switch > self.workload.epochs:
            raise ValueError(f"switch is {self.switch}; at most the {self.workload.epochs} epochs are allowed")
        return self

    def method_at(self, epoch: int) -> Method:
        """Return the method of an epoch, counted from 0."""
        return (
            self.later if self.later is not None and self.switch is not None and epoch >= self.switch else self.method
        )

    @property
    def gradients_per_step(self) -> float:
        """Gradient evaluations per minibatch, on average over the epochs."""
        epochs = self.workload.epochs
        return sum(self.method_at(epoch).gradients for epoch in range(epochs)) / epochs


class SharpnessSettings(Frozen):
    """m-sharpness of a finished run's model (eq. 5, eq. 8)."""

    radii: tuple[NonNegative, ...]
    m: Count = 128
    perturbation: Literal["sam", "asam"] = "sam"
    steps: Count = 1
    images: Count | None = None  # of the training images, the first so many; None: all


class NoiseSettings(Frozen):
    """Accuracy of a finished run's model with noisy weights (section 4.4)."""

    sigmas: tuple[NonNegative, ...]
    draws: Count = 10
    weights_only: bool = False


Measurement = SharpnessSettings | NoiseSettings
