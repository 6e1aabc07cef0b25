"""A run as data: all that decides its numbers, and an address made of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lookbehind.lab.fine_tuning import FineTuning
from lookbehind.lab.frozen import Count, Declared, Frozen, NonNegative, Positive
from lookbehind.lab.method import Method
from lookbehind.lab.stream import Stream
from lookbehind.lab.translation import Translation


class Workload(Declared):
    """Classification of images: data, model and recipe."""

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
    channels_last: bool = False  # in memory: faster for some nets, and other last bits

    @property
    def title(self) -> str:
        """Return its name in a sentence."""
        return f"{self.dataset}, {self.model}"

    def for_epochs(self, epochs: int) -> Workload:
        """Return the same workload for another number of epochs, milestones in proportion."""
        milestones = tuple(round(m * epochs / self.epochs) for m in self.milestones)
        return self.model_copy(update={"epochs": epochs, "milestones": milestones})


class Run(Frozen):
    """One training run. The seed decides split, label noise, initial weights, order, augmentation and dropout."""

    workload: Workload | FineTuning | Stream | Translation
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
        if self.later is not None and not isinstance(self.workload, Workload):
            raise ValueError(f"later is given; {self.workload.title} has one method from beginning to end")
        if isinstance(self.workload, Stream):
            self.workload.check(self.method)
        return self

    def method_at(self, epoch: int) -> Method:
        """Return the method of an epoch, counted from 0."""
        return (
            self.later if self.later is not None and self.switch is not None and epoch >= self.switch else self.method
        )

    def spans(self, epochs: int) -> tuple[tuple[Method, int], ...]:
        """Return the methods of so many epochs, each with the number of its epochs."""
        if self.later is None or self.switch is None:
            return ((self.method, epochs),)
        first = min(self.switch, epochs)
        return ((self.method, first), (self.later, epochs - first))

    def gradients_of(self, method: Method) -> float:
        """Return the gradient evaluations of a method for each minibatch."""
        return self.workload.gradients(method) if isinstance(self.workload, Stream) else method.gradients

    @property
    def gradients_per_step(self) -> float:
        """Gradient evaluations per minibatch, on average over the epochs."""
        spans = self.spans(self.workload.epochs)
        return sum(epochs * self.gradients_of(method) for method, epochs in spans) / self.workload.epochs


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


class QuantisationSettings(Frozen):
    """Accuracy of a finished run's model with weights of a few bits; batch norm is estimated anew."""

    bits: tuple[Count, ...] = (8, 4)


class EigenvalueSettings(Frozen):
    """The largest eigenvalue of the Hessian of a finished run's training loss."""

    images: Count | None = None  # of the training images, the first so many; None: all
    m: Count = 256
    steps: Count = 30  # of Lanczos's iteration, at most


class CalibrationSettings(Frozen):
    """Expected calibration error of a finished run's model on the test images (Guo et al., 2017)."""

    bins: Count = 15


Measurement = SharpnessSettings | NoiseSettings | QuantisationSettings | EigenvalueSettings | CalibrationSettings
