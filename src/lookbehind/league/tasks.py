"""Tasks of the league, with their recipes, budgets and seeds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from lookbehind.lab.fine_tuning import FineTuning
from lookbehind.lab.metrics import Metric, last_test_accuracy, last_validation_accuracy
from lookbehind.lab.metrics_lifelong import final_accuracy, final_validation_accuracy
from lookbehind.lab.run import (
    CalibrationSettings,
    EigenvalueSettings,
    NoiseSettings,
    QuantisationSettings,
    SharpnessSettings,
    Workload,
)
from lookbehind.lab.stream import Stream
from lookbehind.league.entrants import ENTRANTS, Entrant, Trained

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
TEXTS = FineTuning(  # the recipe of the fine-tuning in the paper's items, with fewer texts and epochs
    inputs="texts",
    dataset="domain-tags",
    model="minilm",
    train=160,
    validation=100,
    test=200,
    length=12,
    frozen=5,
    base="adamw",
    epochs=4,
    batch=32,
    lr=1e-3,
    head_rate=5,
    weight_decay=0.01,
    schedule="cosine",
)
STREAM = Stream(  # without replay, so that there is something to forget
    dataset="digits",
    model="lifelong-conv2",
    tasks=5,
    ways=2,
    train=300,
    validation=200,
    test=500,
    augment=False,
    epochs=4,
    lr=0.01,
    momentum=0.9,
    weight_decay=5e-4,
)
TINY_VIT = FineTuning(
    inputs="images",
    dataset="digits",
    model="vit-tiny",
    train=32,
    validation=20,
    test=20,
    noise=0.4,
    augment=False,
    base="adamw",
    epochs=1,
    batch=16,
    lr=1e-3,
    weight_decay=0.01,
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
# From scratch, as Chen et al. (2022) and Zhuang et al. (2022) train ViT-S/16 with AdamW and SAM around it: 300 epochs,
# minibatches of 4,096, rate 3e-3 after 10,000 steps of warm-up, weight decay 0.3. They clip gradients to norm 1; this
# lab does not. A hundredth of the training images is held out.
IMAGENET = FineTuning(
    inputs="images",
    dataset="imagenet-vit",
    model="vit-s-16",
    validation=12_811,
    base="adamw",
    epochs=300,
    warmup=32,
    batch=4096,
    lr=3e-3,
    weight_decay=0.3,
    schedule="cosine",
)


NOISE = NoiseSettings(sigmas=(0.1, 0.2, 0.4), draws=3)
SHARPNESS = SharpnessSettings(radii=(0.1, 0.5), m=125, images=1000)
EIGENVALUE = EigenvalueSettings(images=250, m=250, steps=15)
BITS = QuantisationSettings(bits=(4,))
CALIBRATION = CalibrationSettings()
UNMEASURED: Any = dict.fromkeys(("noise", "sharpness", "eigenvalue", "bits", "calibration"))


@dataclass(frozen=True)
class Task:
    """A workload, with all that is asked of it. A measurement that is None is not taken.

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
    workload: Trained
    budgets: tuple[float, ...]
    trials: int
    tuning: tuple[int, ...]
    fresh: tuple[int, ...]
    noise: NoiseSettings | None = NOISE
    sharpness: SharpnessSettings | None = SHARPNESS
    eigenvalue: EigenvalueSettings | None = EIGENVALUE
    bits: QuantisationSettings | None = BITS
    calibration: CalibrationSettings | None = CALIBRATION

    @property
    def plain(self) -> str:
        """The name of the base optimizer alone."""
        adam = isinstance(self.workload, FineTuning) and self.workload.base == "adamw"
        return "AdamW" if adam else "SGD"

    @property
    def entrants(self) -> dict[str, Entrant]:
        """The entrants that have a meaning here, by name."""
        absent = NO_STREAM if self.lifelong else ()
        return {name.replace("SGD", self.plain): each for name, each in ENTRANTS.items() if name not in absent}

    @property
    def lifelong(self) -> bool:
        """Return whether it is a stream, in which something can be forgotten."""
        return isinstance(self.workload, Stream)

    @property
    def accuracy(self) -> Metric:
        """The number that is reported, after the last epoch."""
        return final_accuracy() if self.lifelong else last_test_accuracy()

    @property
    def validation(self) -> Metric:
        """The number that selects a setting."""
        return final_validation_accuracy() if self.lifelong else last_validation_accuracy()


# A stream has no one epoch to stop at, and its trainer shows a step one minibatch, whole.
NO_STREAM = ("SGD, stopped early", "Climb while accumulating", "Fraction-SAM", "Fraction-SAM, rest")

W = TypeVar("W", Workload, FineTuning)


def _noisy(workload: W) -> W:
    return type(workload).model_validate({**dict(workload), "noise": 0.4})


@cache
def tasks(scale: str) -> dict[str, Task]:
    """Return the tasks of a scale, by the name of their item."""
    five = (0, 1, 2, 3, 4)
    if scale == "smoke":
        small = DIGITS.for_epochs(2).model_copy(update={"train": 200, "validation": 100, "test": 100})
        stream = STREAM.for_epochs(1).model_copy(update={"train": 100, "validation": 100, "test": 100})
        one = ((2.0,), 1, (100,), (0,))
        return {
            "digits-noisy": Task("Digits, 40 % noise", _noisy(small), *one),
            "adamw": Task("Digits, tiny ViT", TINY_VIT, *one, **{**UNMEASURED, "noise": NOISE}),
            "stream": Task("Digits in 5 tasks", stream, *one, **UNMEASURED),
        }
    if scale == "cpu":
        digits, fashion = ((1.0, 2.0, 3.0), 8, (100, 101), five), ((1.0, 2.0), 4, (100,), five)
        texts = "Texts, MiniLM's last layer"
        return {
            "digits-noisy": Task("Digits, 40 % noise", _noisy(DIGITS), *digits),
            "digits-clean": Task("Digits", DIGITS, (1.0, 2.0), *digits[1:]),
            "fashion-noisy": Task("Fashion-MNIST, 40 % noise", _noisy(FASHION), *fashion),
            "fashion-clean": Task("Fashion-MNIST", FASHION, (2.0,), *fashion[1:]),
            "texts-noisy": Task(f"{texts}, 40 % noise", _noisy(TEXTS), (1.0, 2.0), 3, (100,), five, eigenvalue=None),
            "texts-clean": Task(texts, TEXTS, (1.0,), 3, (100,), five, eigenvalue=None),
            "stream": Task("Digits in 5 tasks", STREAM, (1.0, 2.0), 4, (100,), five, **UNMEASURED),
        }
    large = ((1.0, 2.0, 3.0), 8, (100, 101), five)
    cifar100 = Workload.model_validate({**dict(CIFAR), "dataset": "cifar100", "model": "wrn-28-10"})
    return {
        "cifar10": Task("CIFAR-10, ResNet-34", CIFAR, *large),
        "cifar10-noisy": Task("CIFAR-10, 40 % noise, ResNet-34", _noisy(CIFAR), *large),
        "cifar100": Task("CIFAR-100, WRN-28-10", cifar100, *large),
        "imagenet": Task("ImageNet, ViT-S/16", IMAGENET, (1.0, 2.0), 4, (100,), five, eigenvalue=None),
    }
