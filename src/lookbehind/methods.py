"""The record of each method: what it is, what it costs, where its numbers come from. Needs torch only to build one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from lookbehind._words import allowed


@dataclass(frozen=True)
class Option:
    """An option of a method.

    Args:
        default: its default.
        source: where the default, or a better value, comes from.

    """

    default: Any
    source: str


@dataclass(frozen=True)
class Record:
    """Record of a method: title, paper, options, costs, evidence.

    Args:
        title: its name.
        optimizer: module and class, such as "lookbehind.optim.sam:SAM".
        paper: authors and year.
        address: the paper's.
        descends: the gradient that the base optimizer gets, in a line.
        options: its own options, beside those that all methods share.
        gradients: sample gradients of the first n steps, in units of a minibatch's; takes n and the options.
        copies: parameter-sized tensors kept from step to step, beyond the base optimizer's state.
        state: what a checkpoint holds for it.
        evidence: what was measured, and by whom.
        against: what speaks against it.
        closures: how many closures a step takes; 1 is an ordinary closure.
        trial: options of a small trial, such as the tests of the contract make.
        peak: parameter-sized tensors more at the peak inside a step.
        peak_on_host: the same with weights on the CPU, where ε is not written.

    """

    title: str
    optimizer: str
    paper: str
    address: str
    descends: str
    options: Mapping[str, Option]
    gradients: Callable[..., float]
    copies: int
    state: str
    evidence: str
    against: str
    closures: int = 1
    trial: Mapping[str, Any] = field(default_factory=dict)
    peak: float = 1
    peak_on_host: float = 0

    @property
    def kind(self) -> Any:
        """The class. Imports torch."""
        module, name = self.optimizer.split(":")
        return getattr(import_module(module), name)

    def build(self, base: Any, **options: Any) -> Any:
        """Return the optimizer around a base."""
        return self.kind(base, **options)


ARXIV = "https://arxiv.org/abs/"
RHO = Option(0.05, "CIFAR-10 and ImageNet (Foret et al., 2021); 0.1 for CIFAR-100")

_RECORDS: dict[str, Record] = {
    "sam": Record(
        title="SAM",
        optimizer="lookbehind.optim.sam:SAM",
        paper="Foret et al., 2021",
        address=ARXIV + "2010.01412",
        descends="∇L(φ + ε)",
        options={"rho": RHO},
        gradients=lambda steps, **_: 2.0 * steps,
        copies=1,
        state="none",
        evidence="ImageNet, ResNet-50, 90 epochs: 76.9 %, SGD 76.0 % (as reported with GSAM)",
        against="twice the price: SGD with twice the epochs is the rival",
    ),
    "asam": Record(
        title="ASAM",
        optimizer="lookbehind.optim.sam:ASAM",
        paper="Kwon et al., 2021",
        address=ARXIV + "2102.11600",
        descends="∇L(φ + ε), ε scaled by the weights",
        options={
            "rho": Option(0.5, "CIFAR-10 (Kwon et al., 2021); 1.0 for CIFAR-100 and ImageNet"),
            "eta": Option(0.01, "the published class; its scripts pass 0"),
        },
        gradients=lambda steps, **_: 2.0 * steps,
        copies=1,
        state="none",
        evidence="the paper of Lookbehind uses it beside SAM throughout",
        against="which tensors are scaled changes which ρ is best",
        peak=2,
        peak_on_host=2,
    ),
    "multistep_sam": Record(
        title="Multistep-SAM",
        optimizer="lookbehind.optim.multistep_sam:MultistepSAM",
        paper="Mordido et al., 2024, section 4.1; the mean: Kim et al., 2023",
        address=ARXIV + "2307.16704",
        descends="∇L(φ'ₖ), or the mean of those at φ'₁ … φ'ₖ",
        options={
            "rho": RHO,
            "k": Option(2, "2, 5, 10 in the paper"),
            "gradient": Option("last", "the paper; Kim et al. take the mean"),
        },
        gradients=lambda steps, k=2, **_: (k + 1.0) * steps,
        copies=1,
        state="none",
        evidence="a baseline of the paper of Lookbehind",
        against="below Lookbehind in most of the paper's tables",
    ),
    "lookahead": Record(
        title="Lookahead",
        optimizer="lookbehind.optim.lookahead:Lookahead",
        paper="Zhang et al., 2019",
        address=ARXIV + "1907.08610",
        descends="the base optimizer's; slow weights follow",
        options={"k": Option(5, "Zhang et al., 2019"), "alpha": Option(0.5, "Zhang et al., 2019")},
        gradients=lambda steps, **_: 1.0 * steps,
        copies=2,
        state="slow weights, in the middle of a cycle also the fast ones",
        evidence="a baseline of the paper of Lookbehind, around SGD and SAM",
        against="evaluate with the slow weights",
    ),
    "lookbehind": Record(
        title="Lookbehind",
        optimizer="lookbehind.optim.lookbehind:Lookbehind",
        paper="Mordido et al., 2024",
        address=ARXIV + "2307.16704",
        descends="each ∇L(φ'ᵢ), with fast weights; slow weights follow",
        options={
            "rho": RHO,
            "k": Option(2, "2, 5, 10 in the paper"),
            "alpha": Option(0.5, "0.2, 0.5, 0.8 or adaptive in the paper"),
        },
        gradients=lambda steps, k=2, **_: (k + 1.0) * steps,
        copies=2,
        state="none",
        evidence="the paper's tables, reproduced here at small scale",
        against="a step takes k + 1 gradients",
        peak_on_host=1,
    ),
    "momentum_sam": Record(
        title="Momentum-SAM",
        optimizer="lookbehind.optim.momentum_sam:MomentumSAM",
        paper="Becker et al., 2024",
        address=ARXIV + "2401.12033",
        descends="∇L(φ − ρ v/‖v‖), v the momentum",
        options={
            "rho": Option(0.3, "the published class; 3 for CIFAR-100 and ImageNet, where SAM has 0.2"),
            "along": Option(None, "the momentum, or the last displacement where the base has none"),
        },
        gradients=lambda steps, **_: 1.0 * steps,
        copies=1,
        state="none; with along='displacement' the displacement",
        evidence="the tables of its paper, with ρ about 3, which were not reproduced here",
        against="the loss that step returns is that of perturbed weights",
    ),
    "fraction_sam": Record(
        title="Fraction-SAM",
        optimizer="lookbehind.optim.fraction_sam:FractionSAM",
        paper="no paper of its own; K-SAM (Ni et al., 2022) chooses the part by its losses",
        address="",
        descends="∇L_B(φ + ε), ε from a part A of B; or each example once",
        options={
            "rho": Option(0.05, "as for SAM; not tuned for a fraction"),
            "fraction": Option(0.25, "a choice of this package"),
            "descend": Option("whole", "'rest' uses each example once"),
        },
        gradients=lambda steps, fraction=0.25, descend="whole", **_: steps * (1.0 + (descend == "whole") * fraction),
        copies=1,
        state="none",
        evidence="none published under this name",
        against="the ascent is noisier, the smaller the part",
        closures=2,
    ),
    "accumulating_sam": Record(
        title="Climb while accumulating",
        optimizer="lookbehind.optim.accumulating_sam:AccumulatingSAM",
        paper="new here",
        address="",
        descends="the mean of each micro-batch's gradient, each a climb further",
        options={
            "rho": Option(0.05, "as for SAM; not tuned"),
            "anchored": Option(False, "a choice of this package"),
        },
        gradients=lambda steps, **_: 1.0 * steps,
        copies=2,
        state="none",
        evidence="none published",
        against="none published",
        closures=3,
    ),
    "gsam": Record(
        title="GSAM",
        optimizer="lookbehind.optim.gsam:GSAM",
        paper="Zhuang et al., 2022",
        address=ARXIV + "2203.08065",
        descends="g_s − α g_⊥",
        options={
            "rho": Option(0.05, "ResNet-50: 0.04 falling to 0.02; ViT-B/32: 0.6 falling to 0.1"),
            "alpha": Option(0.4, "ViT-S/32; 0.01 for ResNet-50, 0.6 for ViT-B/32"),
        },
        gradients=lambda steps, **_: 2.0 * steps,
        copies=2,
        state="none",
        evidence="ImageNet, ResNet-50: 77.2 %, SAM 76.9 %, SGD 76.0 %; ViT-S/16: 79.5, 78.1, 74.4 % (Zhuang et al.)",
        against="twice the price; two more options to tune",
        peak_on_host=1,
    ),
    "gnp": Record(
        title="GNP",
        optimizer="lookbehind.optim.gnp:GNP",
        paper="Zhao et al., 2022",
        address=ARXIV + "2202.03599",
        descends="(1 − α) g + α g_s",
        options={
            "rho": Option(0.05, "ImageNet; 0.1 for CIFAR"),
            "alpha": Option(0.8, "Zhao et al., 2022"),
        },
        gradients=lambda steps, **_: 2.0 * steps,
        copies=2,
        state="none",
        evidence="the tables of its paper, which were not reproduced here",
        against="twice the price",
    ),
    "wsam": Record(
        title="WSAM",
        optimizer="lookbehind.optim.gnp:WSAM",
        paper="Yue et al., 2023",
        address=ARXIV + "2305.15817",
        descends="g, then γ/(1 − γ) (g_s − g) apart from the base; or both at once",
        options={
            "rho": Option(0.05, "as for SAM"),
            "gamma": Option(0.9, "Yue et al., 2023"),
            "decoupled": Option(True, "the published code"),
        },
        gradients=lambda steps, **_: 2.0 * steps,
        copies=2,
        state="none",
        evidence="the tables of its paper, which were not reproduced here",
        against="twice the price",
        peak_on_host=1,
    ),
    "friendly_sam": Record(
        title="Friendly-SAM",
        optimizer="lookbehind.optim.friendly_sam:FriendlySAM",
        paper="Li et al., 2024",
        address=ARXIV + "2403.12350",
        descends="∇L(φ + ε), ε along g − σ m",
        options={
            "rho": Option(0.2, "the published scripts"),
            "sigma": Option(1.0, "the published scripts"),
            "lam": Option(0.9, "the published scripts have 0.6 to 0.95"),
            "order": Option("official", "the published code; the paper averages first"),
        },
        gradients=lambda steps, **_: 2.0 * steps,
        copies=3,
        state="the average m",
        evidence="logs of one seed, CIFAR-100, ResNet-18: 81.2 to 81.3 %, SAM 80.8 %",
        against="one seed; twice the price",
        peak=2,
        peak_on_host=1,
    ),
    "vasso": Record(
        title="VaSSO",
        optimizer="lookbehind.optim.vasso:VaSSO",
        paper="Li & Giannakis, 2023",
        address=ARXIV + "2309.15639",
        descends="∇L(φ + ε), ε along an average d",
        options={"rho": Option(0.05, "as for SAM"), "theta": Option(0.9, "Li & Giannakis, 2023")},
        gradients=lambda steps, **_: 2.0 * steps,
        copies=3,
        state="the average d",
        evidence="the tables of its paper, which were not reproduced here",
        against="twice the price",
    ),
    "xsam": Record(
        title="XSAM",
        optimizer="lookbehind.optim.xsam:XSAM",
        paper="Chen & Zhou, 2026",
        address=ARXIV + "2603.10048",
        descends="‖g_k‖ slerp(climb, g_k; α)",
        options={
            "rho": Option(0.15, "the paper has 0.15 / k for each ascent"),
            "k": Option(1, "Chen & Zhou, 2026"),
            "alpha": Option(1.0, "search() chooses it, once an epoch"),
            "rho_max": Option(0.3, "Chen & Zhou, 2026"),
        },
        gradients=lambda steps, k=1, **_: (k + 1.0) * steps,
        copies=2,
        state="α, in the groups",
        evidence="the tables of its paper, which were not reproduced here",
        against="21 forward passes an epoch; the published code has NaN at an angle of 0, α = 0 for negative losses",
        trial={"alpha": 0.6},
        peak_on_host=1,
    ),
    "looksam": Record(
        title="LookSAM",
        optimizer="lookbehind.optim.looksam:LookSAM",
        paper="Liu et al., 2022",
        address=ARXIV + "2203.02714",
        descends="g_s in every k-th step, else g + α ‖g‖ g_v / ‖g_v‖",
        options={
            "rho": Option(0.05, "as for SAM"),
            "every": Option(5, "Liu et al., 2022"),
            "alpha": Option(0.7, "Liu et al., 2022"),
        },
        gradients=lambda steps, every=5, **_: float(steps + -(-steps // every)),
        copies=3,
        state="g_v and the number of the step",
        evidence="the tables of its paper, which were not reproduced here",
        against="a comparison by others has it 2.4 points below SAM",
        trial={"every": 1},
        peak_on_host=1,
    ),
    "s2_sam": Record(
        title="S2-SAM",
        optimizer="lookbehind.optim.s2_sam:S2SAM",
        paper="Ji et al., 2024",
        address="https://openreview.net/forum?id=MJgMMqMDu4",
        descends="∇L(φ + ε), ε along the gradient of the step before",
        options={
            "rho": Option(0.05, "as for SAM; let it follow the rate"),
            "k": Option(1, "Ji et al., 2024"),
            "alpha": Option(1.0, "Ji et al., 2024; below 1 it is Lookbehind's"),
        },
        gradients=lambda steps, k=1, **_: float(k * steps),
        copies=3,
        state="the last gradient h",
        evidence="the tables of its paper, which were not reproduced here",
        against="with a constant radius it stays about ρ away from the minimum; the published code is SGD with torch 2",
    ),
    "stable_sam": Record(
        title="StableSAM",
        optimizer="lookbehind.optim.stable_sam:StableSAM",
        paper="Tan et al., 2024",
        address=ARXIV + "2401.07250",
        descends="‖g‖ g_s / ‖g_s‖",
        options={"rho": Option(0.05, "as for SAM")},
        gradients=lambda steps, **_: 2.0 * steps,
        copies=1,
        state="none",
        evidence="the tables of its paper, which were not reproduced here",
        against="twice the price",
    ),
}


class Methods(dict[str, Record]):
    """Records by name. An unknown name raises a ``KeyError`` that names the nearest one."""

    def __missing__(self, name: str) -> Record:
        raise KeyError(f"method {name!r} is unknown; {allowed(name, self)}")


METHODS = Methods(_RECORDS)
