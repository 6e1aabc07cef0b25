"""What is compared: runs as data. A run is its complete settings, and their hash is its address."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict

from lookbehind import SAM, Lookahead, Lookbehind, MultistepSAM, __version__
from lookbehind.data import load_digits
from lookbehind.measure import m_sharpness, noisy_accuracy
from lookbehind.measure.noise import accuracy
from lookbehind.models import ConvNet
from lookbehind.training import train

Labels = Literal["noisy", "clean"]
NOISE = {"noisy": 0.4, "clean": 0.0}  # fraction of the training labels drawn anew
MEASURING_BATCH = 125  # m of m-sharpness: 1,000 training images are 8 minibatches


class Run(BaseModel):
    """One training run with its measurements: all that decides its numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    labels: Labels
    seed: int
    rho: float
    k: int
    alpha: float
    radii: tuple[float, ...]
    epochs: int
    batch: int = 64
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    sigma: float = 0.4
    draws: int = 5
    device: str = "cpu"
    version: str = __version__

    @property
    def address(self) -> str:
        """Sixteen digits that stand for the settings."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


class Result(BaseModel):
    """What a run gave. Numbers that are not finite, as of a diverged run, are absent."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    test_accuracy: float
    validation_accuracy: float
    noisy_accuracy: float
    train_loss: float | None
    sharpness: tuple[float | None, ...]  # one for each radius
    gradients: int
    seconds: float
    diverged: bool
    losses: tuple[float, ...]  # of each epoch


@dataclass(frozen=True)
class Method:
    """A row of the table."""

    label: str
    what: str
    control: bool = False


METHODS = {
    "sgd": Method("SGD", "SGD with momentum"),
    "sam": Method("SAM", "one ascent; 2 gradients a step"),
    "multistep": Method("Multistep-SAM", "k ascents, descent with the last gradient; k + 1 gradients a step"),
    "lookahead": Method("Lookahead-SAM", "SAM inside Lookahead; 2 gradients a step"),
    "lookbehind": Method("Lookbehind-SAM", "k ascents, k descents, interpolation by α; k + 1 gradients a step"),
    "lookbehind-adaptive": Method("Lookbehind-SAM, adaptive α", "the same with α* of eq. 6-7"),
    "sam-radius": Method("SAM at radius k·ρ", "does a larger ρ do the same?", control=True),
    "sam-rate": Method("SAM at rate α·k·η", "does a larger step do the same?", control=True),
    "sgd-longer": Method("SGD, longer", "SGD for as many gradients as Lookbehind", control=True),
    "sam-longer": Method("SAM, longer", "SAM for as many gradients as Lookbehind", control=True),
}


def plan(methods: Sequence[str], labels: Sequence[Labels], seeds: int, **settings: object) -> list[Run]:
    """Return the runs of a comparison, seed by seed, so that an interrupted one has whole seeds."""
    return [
        Run.model_validate({"method": method, "labels": which, "seed": seed, **settings})
        for seed in range(seeds)
        for which in labels
        for method in methods
    ]


def gradients_of(run: Run) -> int:
    """Return how many gradients a run will evaluate, for progress bars."""
    per_step = {"sgd": 1, "multistep": run.k + 1, "lookbehind": run.k + 1, "lookbehind-adaptive": run.k + 1}
    steps = -(-1000 // run.batch) * _epochs(run)
    return steps * per_step.get(run.method.removesuffix("-longer"), 2)


def _epochs(run: Run) -> int:
    """Lookbehind spends k + 1 gradients on a minibatch, SGD 1 and SAM 2: 'longer' makes up for it in epochs."""
    if run.method == "sgd-longer":
        return run.epochs * (run.k + 1)
    if run.method == "sam-longer":
        return round(run.epochs * (run.k + 1) / 2)
    return run.epochs


def _optimizer(run: Run, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Return the method's optimizer; batch-norm statistics follow unperturbed passes, for all methods alike."""
    lr = run.lr * run.alpha * run.k if run.method == "sam-rate" else run.lr
    base = torch.optim.SGD(model.parameters(), lr=lr, momentum=run.momentum, weight_decay=run.weight_decay)
    match run.method:
        case "sgd" | "sgd-longer":
            return base
        case "sam" | "sam-rate" | "sam-longer":
            return SAM(base, rho=run.rho, model=model)
        case "sam-radius":
            return SAM(base, rho=run.k * run.rho, model=model)
        case "multistep":
            return MultistepSAM(base, rho=run.rho, k=run.k, model=model)
        case "lookahead":
            return Lookahead(SAM(base, rho=run.rho, model=model), k=run.k, alpha=run.alpha)
        case "lookbehind":
            return Lookbehind(base, rho=run.rho, k=run.k, alpha=run.alpha, model=model)
        case "lookbehind-adaptive":
            return Lookbehind(base, rho=run.rho, k=run.k, alpha="adaptive", model=model)
    raise ValueError(f"method is {run.method!r}; allowed are {', '.join(METHODS)}")


def execute(run: Run) -> Result:
    """Train and measure. The seed decides split, label noise, initial weights and order of data in every method."""
    torch.manual_seed(run.seed)
    data = load_digits(run.seed, noise=NOISE[run.labels]).to(run.device)
    model = ConvNet().to(run.device)
    optimizer = _optimizer(run, model)
    epochs = _epochs(run)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    history = train(
        model,
        optimizer,
        data.train_images,
        data.train_labels,
        epochs=epochs,
        batch=run.batch,
        seed=run.seed,
        scheduler=scheduler,
    )
    train_batches = _minibatches(data.train_images, data.train_labels)
    test_batches = _minibatches(data.test_images, data.test_labels)
    sharpness = m_sharpness(model, torch.nn.functional.cross_entropy, train_batches, run.radii)
    noisy = noisy_accuracy(model, train_batches, test_batches, [run.sigma], draws=run.draws, seed=run.seed)
    return Result(
        test_accuracy=accuracy(model, test_batches),
        validation_accuracy=accuracy(model, _minibatches(data.validation_images, data.validation_labels)),
        noisy_accuracy=noisy.means[0],
        train_loss=_finite(sharpness.loss),
        sharpness=tuple(map(_finite, sharpness.values)),
        gradients=history.gradients,
        seconds=history.seconds,
        diverged=history.diverged or _finite(sharpness.loss) is None,
        losses=tuple(epoch.loss for epoch in history.epochs if math.isfinite(epoch.loss)),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _minibatches(images: torch.Tensor, labels: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(zip(images.split(MEASURING_BATCH), labels.split(MEASURING_BATCH), strict=True))
