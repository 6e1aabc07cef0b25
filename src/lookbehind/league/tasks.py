"""Tasks of the league, with their recipes, budgets and seeds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from lookbehind.lab.run import (
    CalibrationSettings,
    EigenvalueSettings,
    NoiseSettings,
    QuantisationSettings,
    SharpnessSettings,
    Workload,
)

DIGITS = Workload(
    dataset="digits", model="convnet", train=1000, epochs=15, batch=64, weight_decay=5e-4, schedule="cosine"
)
FASHION = Workload(
    dataset="fashion-mnist",
    model="resnet8",
    size=14,
    train=5000,
    validation=500,
    test=1000,
    augment=False,
    epochs=3,
    batch=64,
    weight_decay=5e-4,
    schedule="cosine",
)
CIFAR = Workload(
    dataset="cifar10",
    model="resnet34",
    epochs=200,
    batch=128,
    weight_decay=5e-4,
    schedule="cosine",
)


NOISE = NoiseSettings(sigmas=(0.1, 0.2, 0.4), draws=3)
SHARPNESS = SharpnessSettings(radii=(0.1, 0.5), m=125, images=1000)
EIGENVALUE = EigenvalueSettings(images=250, m=250, steps=15)
BITS = QuantisationSettings(bits=(4,))
CALIBRATION = CalibrationSettings()


@dataclass(frozen=True)
class Task:
    """A workload, with all that is asked of it.

    Args:
        name: as it stands in a heading.
        workload: data, model and recipe.
        budgets: sample gradients in units of the recipe's own.
        trials: settings that each entrant may try.
        tuning: seeds of these trials.
        fresh: seeds of the numbers that are reported.
        noise: how noisy weights are measured.
        sharpness: how m-sharpness is measured.
        eigenvalue: how the largest Hessian eigenvalue is measured.
        bits: how rounded weights are measured.
        calibration: how calibration is measured.

    """

    name: str
    workload: Workload
    budgets: tuple[float, ...]
    trials: int
    tuning: tuple[int, ...]
    fresh: tuple[int, ...]
    noise: NoiseSettings = NOISE
    sharpness: SharpnessSettings = SHARPNESS
    eigenvalue: EigenvalueSettings = EIGENVALUE
    bits: QuantisationSettings = BITS
    calibration: CalibrationSettings = CALIBRATION


def _noisy(workload: Workload) -> Workload:
    return Workload.model_validate({**dict(workload), "noise": 0.4})


@cache
def tasks(scale: str) -> dict[str, Task]:
    """Return the tasks of a scale, by the name of their item."""
    five = (0, 1, 2, 3, 4)
    if scale == "smoke":
        small = DIGITS.for_epochs(2).model_copy(update={"train": 200, "validation": 100, "test": 100})
        return {"digits-noisy": Task("Digits, 40 % noise", _noisy(small), (2.0,), 1, (100,), (0,))}
    if scale == "cpu":
        digits, fashion = ((1.0, 2.0, 3.0), 8, (100, 101), five), ((1.0, 2.0), 4, (100,), five)
        return {
            "digits-noisy": Task("Digits, 40 % noise", _noisy(DIGITS), *digits),
            "digits-clean": Task("Digits", DIGITS, (1.0, 2.0), *digits[1:]),
            "fashion-noisy": Task("Fashion-MNIST, 40 % noise", _noisy(FASHION), *fashion),
            "fashion-clean": Task("Fashion-MNIST", FASHION, (2.0,), *fashion[1:]),
        }
    large = ((1.0, 2.0, 3.0), 8, (100, 101), five)
    cifar100 = Workload.model_validate({**dict(CIFAR), "dataset": "cifar100", "model": "wrn-28-10"})
    return {
        "cifar10": Task("CIFAR-10, ResNet-34", CIFAR, *large),
        "cifar10-noisy": Task("CIFAR-10, 40 % noise, ResNet-34", _noisy(CIFAR), *large),
        "cifar100": Task("CIFAR-100, WRN-28-10", cifar100, *large),
    }
