"""Workloads of the paper: data, model, recipe, and the grid of hyper-parameters, at three scales."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from lookbehind.lab.estimate import A100, TWO_CORES, Device
from lookbehind.lab.run import NoiseSettings, SharpnessSettings, Workload

SCALES = ("smoke", "cpu", "paper")
DEVICES: dict[str, Device] = {"smoke": TWO_CORES, "cpu": TWO_CORES, "paper": A100}
Rule = Literal["sam", "asam"]
RULES: tuple[Rule, Rule] = ("sam", "asam")
ALPHAS = (0.2, 0.5, 0.8)
SAM_RADII = ((0.05, 0.1, 0.2), (0.05, 0.1, 0.2, 0.5))  # tuned, wide
ASAM_RADII = ((0.5, 1.0, 2.0), (0.5, 1.0, 2.0, 5.0))


@dataclass(frozen=True)
class Radii:
    """Values of ρ for one perturbation.

    Args:
        default: of every method but the tuned baselines.
        tuned: among which Table 1 chooses for the plain baselines; also those of Figures 1, 3 and 8.
        wide: those of Figures 4, 7 and 9.

    """

    default: float
    tuned: tuple[float, ...]
    wide: tuple[float, ...]


@dataclass(frozen=True)
class Pair:
    """A data set and a model, with the grid and the seeds to train them with."""

    dataset: str
    model: str
    workload: Workload
    sam: Radii
    asam: Radii
    ks: tuple[int, ...]
    alphas: tuple[float, ...]
    seeds: tuple[int, ...] = (0, 1, 2)

    @property
    def title(self) -> str:
        """The head of its column."""
        return f"{self.dataset}, {self.model}"

    def radii(self, rule: Rule) -> Radii:
        """Return the values of ρ for a perturbation."""
        return self.sam if rule == "sam" else self.asam


def _paper(dataset: str, model: str, rho: float, asam_rho: float, workload: Workload) -> Pair:
    ks = (2,) if dataset == "ImageNet" else (2, 5, 10)
    return Pair(dataset, model, workload, Radii(rho, *SAM_RADII), Radii(asam_rho, *ASAM_RADII), ks, ALPHAS)


def _cifar(dataset: str, model: str) -> Workload:
    # The paper holds no images out: "validation accuracy" is that of the official test images.
    return Workload(dataset=dataset, model=model, validation=0, epochs=200, milestones=(50, 100, 150))


IMAGENET = Workload(dataset="imagenet", model="resnet18", validation=0, epochs=90, batch=400, milestones=(30, 60))
DIGITS = Workload(
    dataset="digits",
    model="convnet",
    train=1000,
    noise=0.4,
    epochs=15,
    batch=64,
    weight_decay=5e-4,
    schedule="cosine",
)
FASHION = Workload(
    dataset="fashion-mnist",
    model="convnet",
    size=14,
    train=500,
    validation=300,
    test=1000,
    noise=0.4,
    augment=False,
    epochs=20,
    batch=32,
    weight_decay=5e-4,
    schedule="cosine",
)
SMOKE = DIGITS.model_copy(update={"train": 256, "validation": 100, "test": 100, "epochs": 2})


@cache
def pairs(scale: str) -> tuple[Pair, ...]:
    """Return the pairs of data set and model of a scale's tables.

    Raises:
        ValueError: if there is no such scale.

    """
    if scale == "paper":
        return (
            _paper("CIFAR-10", "ResNet-34", 0.05, 0.5, _cifar("cifar10", "resnet34")),
            _paper("CIFAR-10", "WRN-28-2", 0.05, 0.5, _cifar("cifar10", "wrn-28-2")),
            _paper("CIFAR-100", "ResNet-50", 0.1, 1.0, _cifar("cifar100", "resnet50")),
            _paper("CIFAR-100", "WRN-28-10", 0.1, 1.0, _cifar("cifar100", "wrn-28-10")),
            _paper("ImageNet", "ResNet-18", 0.05, 1.0, IMAGENET),
        )
    if scale == "cpu":
        # The paper's values for CIFAR-100.
        sam, asam = Radii(0.1, *SAM_RADII), Radii(1.0, *ASAM_RADII)
        one_sam, one_asam = Radii(0.1, (0.1,), SAM_RADII[0]), Radii(1.0, (1.0,), ASAM_RADII[0])
        five = (0, 1, 2, 3, 4)
        return (
            Pair("Digits, 40 % noise", "conv net", DIGITS, sam, asam, ks=(2,), alphas=(0.5, 0.8), seeds=five),
            Pair("Fashion-MNIST, 40 % noise", "conv net", FASHION, one_sam, one_asam, (2,), (0.8,), seeds=five),
        )
    if scale == "smoke":
        sam, asam = Radii(0.1, (0.1, 0.2), (0.1, 0.2)), Radii(1.0, (0.5, 1.0), (0.5, 1.0))
        return (Pair("Digits", "conv net", SMOKE, sam, asam, ks=(2,), alphas=(0.5, 0.8), seeds=(0, 1)),)
    raise ValueError(f"scale is {scale!r}; allowed are {', '.join(SCALES)}")


@cache
def figure_pairs(scale: str, thin: bool = False) -> tuple[Pair, ...]:
    """Return the pairs of a scale's figures; the first is that of figures on one model.

    At scale paper they are those of the tables. At scale cpu they have three of the five seeds. On the digits they have
    the paper's grid or, thin, k ∈ {2, 5} and α ∈ {0.5, 0.8}.
    """
    if scale == "paper":
        return pairs(scale)
    digits, *others = (replace(pair, seeds=pair.seeds[:3]) for pair in pairs(scale))
    if scale == "smoke":
        return (digits if thin else replace(digits, ks=(2, 3)), *others)
    if thin:
        return (replace(digits, ks=(2, 5)), *others)
    return (replace(digits, ks=(2, 5, 10), alphas=ALPHAS), *(replace(other, alphas=ALPHAS) for other in others))


@cache
def asam_setup(scale: str) -> Pair:
    """Return the pair of Table 9, the setup of Kwon et al., 2021: cosine learning rates, label smoothing, one ρ."""
    changes: dict[str, Any] = {"label_smoothing": 0.1}
    if scale == "paper":
        pair = next(pair for pair in pairs(scale) if pair.model == "WRN-28-10")
        changes |= {"schedule": "cosine", "milestones": (), "weight_decay": 5e-4}
    else:
        pair = pairs(scale)[-1]
    if scale == "cpu":
        pair = replace(pair, model="ResNet-8")
        changes |= {"model": "resnet8"}
    return replace(
        pair,
        workload=pair.workload.model_copy(update=changes),
        sam=Radii(pair.sam.default, (pair.sam.default,), ()),
        asam=Radii(pair.asam.default, (pair.asam.default,), ()),
        ks=(2,),
        alphas=(),
        seeds=pair.seeds if scale == "smoke" else (0, 1, 2, 3, 4),
    )


def sharpness(scale: str, rule: Rule) -> SharpnessSettings:
    """Return how sharpness is measured (eq. 5 for Figures 1 and 3, eq. 8 for Figure 8)."""
    if scale == "paper":
        large = tuple(i / 2 for i in range(1, 11))
        return SharpnessSettings(radii=(0.05, *large) if rule == "sam" else large, m=128, perturbation=rule)
    if scale == "cpu":  # a net of 24,000 weights is far from any minimum at r = 5
        radii = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5) if rule == "sam" else (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
        return SharpnessSettings(radii=radii, m=125, perturbation=rule)
    return SharpnessSettings(radii=(0.05, 0.5) if rule == "sam" else (0.5, 1.0), m=128, perturbation=rule)


def noisy(scale: str, pair: Pair) -> NoiseSettings:
    """Return how noisy weights are measured (Figure 4)."""
    if scale == "paper":
        return NoiseSettings(sigmas=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5), draws=3 if pair.dataset == "ImageNet" else 10)
    if scale == "cpu":
        return NoiseSettings(sigmas=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5), draws=3)
    return NoiseSettings(sigmas=(0.0, 0.4), draws=2)
