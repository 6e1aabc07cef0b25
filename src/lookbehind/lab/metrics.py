"""Metrics of a finished run: one number, or several that are pooled (the draws of noisy weights)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

from lookbehind.lab.result import Result
from lookbehind.lab.run import (
    CalibrationSettings,
    EigenvalueSettings,
    Measurement,
    NoiseSettings,
    QuantisationSettings,
    SharpnessSettings,
)

Measured = Mapping[str, Any]
Numbers = tuple[float | None, ...]  # None: not finite; no number at all: the run does not have it


@dataclass(frozen=True)
class Metric:
    """Metric of a run: how it is read, and which direction is better. Two are equal that read alike.

    Args:
        name: what an axis or a caption calls it.
        higher_is_better: whether the best setting is that of the highest number.
        read: a function of the run's ``Result``, or of what was measured if it has an argument ``settings``, and of the
            arguments; it returns a number, several, or ``()`` for none.
        arguments: what ``read`` gets beside that.
        digits: after the decimal point. Default: those of the table.

    """

    name: str
    higher_is_better: bool
    read: Callable[..., Any]
    arguments: tuple[tuple[str, Any], ...] = ()
    digits: int | None = None

    @property
    def measurement(self) -> Measurement | None:
        """The measurement that it needs, if any."""
        found: Measurement | None = dict(self.arguments).get("settings")
        return found

    def of(self, result: Result, measured: Measured) -> Numbers:
        """Return the numbers; none if the run does not have them, as without validation images."""
        found = self.read(result if self.measurement is None else measured, **dict(self.arguments))
        return found if isinstance(found, tuple) else (found,)


def metric(
    name: str, *, higher_is_better: bool = True, digits: int | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Metric]]:
    """Make a metric of a function of a ``Result``, or of what was measured by its argument ``settings``.

    Example:
        >>> @metric("training accuracy (%)")
        ... def training_accuracy(result):
        ...     return result.last.accuracy
        >>> training_accuracy().name
        'training accuracy (%)'

    """

    def made(read: Callable[..., Any]) -> Callable[..., Metric]:
        parameters = list(inspect.signature(read).parameters)[1:]

        @wraps(read)
        def of(*values: Any, **named: Any) -> Metric:
            given = dict(zip(parameters, values, strict=False)) | named
            return Metric(name, higher_is_better, read, tuple((p, given[p]) for p in parameters), digits)

        return of

    return made


# --- of the run's own record -----------------------------------------------------------------------------------------


@metric("best test accuracy (%)")
def best_test_accuracy(result: Result) -> Any:
    """The best of all epochs: what the paper reports. It selects an epoch on the test images."""
    return result.best_by_test.test


@metric("last test accuracy (%)")
def last_test_accuracy(result: Result) -> Any:
    """After the last epoch."""
    return result.last.test


@metric("last validation accuracy (%)")
def last_validation_accuracy(result: Result) -> Any:
    """After the last epoch: to select by."""
    return () if result.last.validation is None else result.last.validation


def _best_validation(result: Result) -> Any:
    """The best of all epochs: to select by."""
    best = result.best_by_validation
    return () if best is None else best.validation


def _test_at_best_validation(result: Result) -> Any:
    """That of the epoch that is best on held-out examples; the first of equal ones."""
    best = result.best_by_validation
    return () if best is None else best.test


best_validation_accuracy = metric("best validation accuracy (%)")(_best_validation)
"""The best validation accuracy of all epochs: to select by."""
best_validation_bleu = metric("best validation BLEU")(_best_validation)
"""The best validation BLEU of all epochs: to select by."""
accuracy_at_best_validation = metric("test accuracy (%) at the epoch of best validation accuracy")(
    _test_at_best_validation
)
"""The test accuracy of the epoch that is best on held-out images; the first of equal ones."""
bleu_at_best_validation = metric("test BLEU at the epoch of best validation BLEU")(_test_at_best_validation)
"""The test BLEU of the epoch that is best on validation sentences; the first of equal ones."""


@metric("epoch of best test accuracy", higher_is_better=False)
def best_epoch(result: Result) -> Any:
    """Counted from 1; the first of equal ones."""
    return float(result.best_by_test.epoch)


@metric("training loss", higher_is_better=False)
def training_loss(result: Result) -> Any:
    """The mean of the last epoch, each minibatch's before its step."""
    return result.loss


@metric("test accuracy (%)")
def accuracy_at(result: Result, epoch: int) -> Any:
    """After an epoch, counted from 1."""
    return result.records[epoch - 1].test


@metric("adaptive α")
def alpha_at(result: Result, epoch: int) -> Any:
    """The mean α* of an epoch, counted from 1 (eq. 6)."""
    alpha = result.records[epoch - 1].alpha
    return () if alpha is None else alpha


@metric("test accuracy (%) of the untouched checkpoint")
def untouched_accuracy(result: Result) -> Any:
    """Accuracy with which fine-tuning began, if its head was pretrained too."""
    return result.data.get("untouched", ())


@metric("gradient evaluations", higher_is_better=False, digits=0)
def gradient_evaluations(result: Result) -> Any:
    """Of the whole run; a Hessian-vector product counts as two."""
    return float(result.gradients)


@metric("seconds of training", higher_is_better=False)
def seconds_of_training(result: Result) -> Any:
    """Of the whole run, on whatever it was trained."""
    return result.seconds


# --- of measurements of its weights ----------------------------------------------------------------------------------


@metric("m-sharpness", higher_is_better=False)
def sharpness_at(measured: Measured, settings: SharpnessSettings, radius: float) -> Any:
    """At a radius r (eq. 5, eq. 8). One measurement serves every radius."""
    return measured["values"][settings.radii.index(radius)]


@metric("training loss", higher_is_better=False)
def measured_loss(measured: Measured, settings: SharpnessSettings) -> Any:
    """Of the finished model in eval mode, on the images on which sharpness is measured."""
    return measured["loss"]


@metric("test accuracy (%) with noisy weights")
def noisy_accuracy_at(measured: Measured, settings: NoiseSettings, sigma: float) -> Any:
    """At a σ: one number for each draw, to be pooled over draws and seeds."""
    return tuple(measured["accuracies"][settings.sigmas.index(sigma)])


@metric("test accuracy (%) with noisy weights, mean over σ")
def robustness(measured: Measured, settings: NoiseSettings) -> Any:
    """The mean of the means over all σ: to select the most robust setting by."""
    return sum(measured["means"]) / len(settings.sigmas)


@metric("test accuracy (%) with rounded weights")
def quantised_accuracy_at(measured: Measured, settings: QuantisationSettings, bits: int) -> Any:
    """With one step size for each tensor."""
    return measured["per_tensor"][settings.bits.index(bits)]


@metric("largest Hessian eigenvalue", higher_is_better=False)
def top_eigenvalue(measured: Measured, settings: EigenvalueSettings) -> Any:
    """Of the mean training loss, in eval mode."""
    return measured["values"][0]


@metric("expected calibration error (%)", higher_is_better=False)
def calibration_error(measured: Measured, settings: CalibrationSettings) -> Any:
    """On the test images (Guo et al., 2017)."""
    return measured["error"]
