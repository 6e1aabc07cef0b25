"""What is read off a finished run: one number, or several that are pooled (the draws of noisy weights)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from lookbehind.lab.result import Result
from lookbehind.lab.run import Measurement, NoiseSettings, SharpnessSettings

Measured = Mapping[str, Any]
Numbers = tuple[float | None, ...]  # None: not finite


class Metric(Protocol):
    """How numbers are read off a run, and which direction is better."""

    name: ClassVar[str]
    higher_is_better: ClassVar[bool]

    @property
    def measurement(self) -> Measurement | None:
        """The measurement that it needs, if any."""

    def of(self, result: Result, measured: Measured) -> Numbers:
        """Return the numbers; none if the run does not have them, as without validation images."""


@dataclass(frozen=True)
class _OfResult:
    """The run's own record is enough."""

    @property
    def measurement(self) -> Measurement | None:
        return None


@dataclass(frozen=True)
class BestTestAccuracy(_OfResult):
    """The best test accuracy of all epochs: what the paper reports. It selects an epoch on the test images."""

    name: ClassVar[str] = "best test accuracy (%)"
    higher_is_better: ClassVar[bool] = True

    def of(self, result: Result, measured: Measured) -> Numbers:
        """Return max over epochs."""
        return (result.best_by_test.test,)


@dataclass(frozen=True)
class LastTestAccuracy(_OfResult):
    """The test accuracy after the last epoch."""

    name: ClassVar[str] = "last test accuracy (%)"
    higher_is_better: ClassVar[bool] = True

    def of(self, result: Result, measured: Measured) -> Numbers:
        """Return that of the last epoch."""
        return (result.last.test,)


@dataclass(frozen=True)
class BestValidationAccuracy(_OfResult):
    """The best validation accuracy of all epochs: to select by."""

    name: ClassVar[str] = "best validation accuracy (%)"
    higher_is_better: ClassVar[bool] = True

    def of(self, result: Result, measured: Measured) -> Numbers:
        """Return max over epochs."""
        best = result.best_by_validation
        return () if best is None else (best.validation,)


@dataclass(frozen=True)
class AccuracyAtBestValidation(_OfResult):
    """The test accuracy of the epoch that is best on held-out images; the first of equal ones."""

    name: ClassVar[str] = "test accuracy (%) at the epoch of best validation accuracy"
    higher_is_better: ClassVar[bool] = True

    def of(self, result: Result, measured: Measured) -> Numbers:
        """Return that epoch's."""
        best = result.best_by_validation
        return () if best is None else (best.test,)


@dataclass(frozen=True)
class BestValidationBleu(_OfResult):
    """The best validation BLEU of all epochs: to select by."""

    name: ClassVar[str] = "best validation BLEU"
    higher_is_better: ClassVar[bool] = True

    def of(self, result: Result, measured: Measured) -> Numbers:
        """Return max over epochs."""
        best = result.best_by_validation
        return () if best is None else (best.validation,)


@dataclass(frozen=True)
class BleuAtBestValidation(_OfResult):
    """The test BLEU of the epoch that is best on validation sentences; the first of equal ones."""

    name: ClassVar[str] = "test BLEU at the epoch of best validation BLEU"
    higher_is_better: ClassVar[bool] = True

    def of(self, result: Result, measured: Measured) -> Numbers:
        """Return that epoch's."""
        best = result.best_by_validation
        return () if best is None else (best.test,)


@dataclass(frozen=True)
class BestEpoch(_OfResult):
    """The epoch of best test accuracy, counted from 1; the first of equal ones."""

    name: ClassVar[str] = "epoch of best test accuracy"
    higher_is_better: ClassVar[bool] = False

    def of(self, result: Result, measured: Measured) -> Numbers:
        """Return the number of the epoch."""
        return (float(result.best_by_test.epoch),)


@dataclass(frozen=True)
class TrainingLoss(_OfResult):
    """The mean training loss of the last epoch, each minibatch's before its step."""

    name: ClassVar[str] = "training loss"
    higher_is_better: ClassVar[bool] = False

    def of(self, result: Result, measured: Measured) -> Numbers:
        """Return that of the last epoch."""
        return (result.loss,)


@dataclass(frozen=True)
class AccuracyAt(_OfResult):
    """The test accuracy after an epoch, counted from 1."""

    epoch: int
    name: ClassVar[str] = "test accuracy (%)"
    higher_is_better: ClassVar[bool] = True

    def of(self, result: Result, measured: Measured) -> Numbers:
        """Return that epoch's."""
        return (result.records[self.epoch - 1].test,)


@dataclass(frozen=True)
class AlphaAt(_OfResult):
    """The mean α* of an epoch, counted from 1 (eq. 6)."""

    epoch: int
    name: ClassVar[str] = "adaptive α"
    higher_is_better: ClassVar[bool] = True

    def of(self, result: Result, measured: Measured) -> Numbers:
        """Return that epoch's."""
        alpha = result.records[self.epoch - 1].alpha
        return () if alpha is None else (alpha,)


@dataclass(frozen=True)
class Sharpness:
    """m-sharpness at a radius r (eq. 5, eq. 8)."""

    settings: SharpnessSettings
    radius: float
    name: ClassVar[str] = "m-sharpness"
    higher_is_better: ClassVar[bool] = False

    @property
    def measurement(self) -> Measurement | None:
        """The settings with all their radii: one measurement serves every radius."""
        return self.settings

    def of(self, result: Result, measured: Measured) -> Numbers:
        """Return the value at the radius."""
        return (measured["values"][self.settings.radii.index(self.radius)],)


@dataclass(frozen=True)
class MeasuredLoss:
    """The training loss of the finished model in eval mode, on the images on which sharpness is measured."""

    settings: SharpnessSettings
    name: ClassVar[str] = "training loss"
    higher_is_better: ClassVar[bool] = False

    @property
    def measurement(self) -> Measurement | None:
        """The measurement of sharpness, which has the loss at the weights themselves."""
        return self.settings

    def of(self, result: Result, measured: Measured) -> Numbers:
        """Return the loss."""
        return (measured["loss"],)


@dataclass(frozen=True)
class NoisyAccuracy:
    """Test accuracy with noisy weights at a σ: one number for each draw, to be pooled over draws and seeds."""

    settings: NoiseSettings
    sigma: float
    name: ClassVar[str] = "test accuracy (%) with noisy weights"
    higher_is_better: ClassVar[bool] = True

    @property
    def measurement(self) -> Measurement | None:
        """The settings with all their σ."""
        return self.settings

    def of(self, result: Result, measured: Measured) -> Numbers:
        """Return the accuracy of each draw."""
        return tuple(measured["accuracies"][self.settings.sigmas.index(self.sigma)])


@dataclass(frozen=True)
class Robustness:
    """Accuracy with noisy weights, mean over all σ: to select the most robust setting by."""

    settings: NoiseSettings
    name: ClassVar[str] = "test accuracy (%) with noisy weights, mean over σ"
    higher_is_better: ClassVar[bool] = True

    @property
    def measurement(self) -> Measurement | None:
        """The settings."""
        return self.settings

    def of(self, result: Result, measured: Measured) -> Numbers:
        """Return the mean of the means."""
        return (sum(measured["means"]) / len(self.settings.sigmas),)


@dataclass(frozen=True)
class UntouchedAccuracy(_OfResult):
    """The test accuracy of the pretrained weights, before any of them is trained."""

    name: ClassVar[str] = "test accuracy (%) of the untouched checkpoint"
    higher_is_better: ClassVar[bool] = True

    def of(self, result: Result, measured: Measured) -> Numbers:
        """Return what fine-tuning began with, if its head was pretrained too."""
        return (result.data["untouched"],) if "untouched" in result.data else ()
