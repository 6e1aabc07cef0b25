"""From a run's description to what trains it: data, model, optimizer, learning rates."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler, MultiStepLR, SequentialLR

from lookbehind._minibatch import Loss
from lookbehind.data import Data, Source, default_root, fetch, read
from lookbehind.lab import declared
from lookbehind.lab.fine_tuning import FineTuning
from lookbehind.lab.method import MINIBATCHES, NEEDS, Method
from lookbehind.lab.run import Run, Workload
from lookbehind.methods import METHODS
from lookbehind.models import build
from lookbehind.optim import SAM, Adaptive, Euclidean, Lookahead, Lookbehind, MultistepSAM

Steps = Callable[[], int] | None  # counts the steps of the whole training


@dataclass
class Trainer:
    """Model, optimizer and schedule of a run. ``optimizer`` is the method around ``base``, or ``base`` itself.

    The scheduler holds the base, so that both outlast a change of method.
    """

    model: nn.Module
    base: SGD
    scheduler: LRScheduler
    method: Method
    optimizer: Optimizer

    def change(self, method: Method) -> None:
        """Put another method around the same base: momentum and schedule go on (Figure 10)."""
        if method == self.method:
            return
        factor = method.rate / self.method.rate
        for group in self.base.param_groups:
            for key in set(group) - {"params", "initial_lr", *self.base.defaults}:
                del group[key]  # of the method before, whose ρ and α would be taken for this one's
            group["lr"] *= factor  # from which the schedules go on, step by step
        self.method, self.optimizer = method, optimizer_of(method, self.base, self.model)


def trainer_of(run: Run, data: Data, device: str) -> Trainer:
    """Return what a run begins with, freshly initialised from the seed."""
    workload = of_images(run)
    torch.manual_seed(run.seed)
    model = build(workload.model, channels=data.channels, classes=len(data.classes)).to(device)
    if workload.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    method = run.method_at(0)
    base = base_of(workload, method, model)

    def steps() -> int:
        return -(-len(data.train) // workload.batch) // method.minibatches * workload.epochs

    return Trainer(model, base, scheduler_of(workload, base), method, optimizer_of(method, base, model, steps))


def of_images(run: Run) -> Workload:
    """Return the workload of a run that classifies images.

    Raises:
        TypeError: if it does something else.

    """
    if not isinstance(run.workload, Workload):
        raise TypeError(f"the workload is a {type(run.workload).__name__}; classification of images is needed here")
    return run.workload


def data_of(run: Run, device: str) -> Data:
    """Return a run's data on a device."""
    w = of_images(run)
    return loaded(
        w.dataset,
        default_root(),
        device,
        seed=run.seed,
        train=w.train,
        validation=w.validation,
        test=w.test,
        noise=w.noise,
        size=w.size,
    )


@lru_cache(maxsize=2)
def loaded(dataset: str, root: Path, device: str, *, size: int | None = None, **settings: Any) -> Data:
    """Return images by the settings of ``lookbehind.data.load``. The last ones are kept, for runs that share them."""
    return _source(dataset, root, size).choose(**settings).to(device)


@lru_cache(maxsize=1)
def _source(dataset: str, root: Path, size: int | None) -> Source:
    """Read a data set, once for all seeds: the runs of a table go through them in turn."""
    return read(dataset, root, size=size)


@cache
def fetched(dataset: str, root: Path) -> None:
    """Get the files of a data set, once: many workloads share them, and to check large ones takes time."""
    fetch(dataset, root)


def loss_of(workload: Workload) -> Loss:
    """Return the training loss: cross-entropy, with the workload's label smoothing."""
    return partial(nn.functional.cross_entropy, label_smoothing=workload.label_smoothing)


def base_of(workload: Workload, method: Method, model: nn.Module) -> SGD:
    """Return SGD at the workload's learning rate times the method's ``rate``."""
    return SGD(
        model.parameters(),
        lr=workload.lr * method.rate,
        momentum=workload.momentum,
        weight_decay=workload.weight_decay,
    )


def optimizer_of(method: Method, base: Optimizer, model: nn.Module, steps: Steps = None) -> Optimizer:
    """Return the method around a base optimizer; ``steps`` are those of the whole training, where they are known."""
    if method.kind not in NEEDS:
        return _named(method, base, model, steps)
    given = method.model_dump(include={"k", "alpha"}, exclude_none=True)  # no more than the kind takes
    if method.kind == "base":
        return base
    if method.rho is None:
        return Lookahead(base, **given)
    climb: dict[str, Any] = {
        "rho": method.rho / (method.k or 1) if method.divided else method.rho,
        "perturbation": Euclidean() if method.perturbation == "sam" else Adaptive(eta=method.eta),
        "model": model if method.unperturbed_statistics else None,
    }
    match method.kind:
        case "sam":
            return SAM(base, **climb)
        case "multistep":
            return MultistepSAM(base, gradient=method.gather or "last", **climb, **given)
        case "lookahead":
            return Lookahead(SAM(base, **climb), **given)
        case _:
            return Lookbehind(base, **climb, **given)


def _named(method: Method, base: Optimizer, model: nn.Module, steps: Steps) -> Optimizer:
    """Return an optimizer of the family, or of a study."""
    options: dict[str, Any] = {name: value for name, value in method.options if name != MINIBATCHES}
    if method.kind in METHODS:
        if method.unperturbed_statistics:
            options["model"] = model
        made: Optimizer = METHODS[method.kind].build(base, **options)
        return made
    build = declared.METHODS[method.kind].build
    taken = inspect.signature(build).parameters
    if "steps" in taken and steps is None:
        raise ValueError(f"the method {method.kind!r} asks for the number of steps, known of image classification only")
    if "model" in taken:
        options["model"] = model
    if "steps" in taken and steps is not None:
        options["steps"] = steps()
    made = build(base, **options)
    if not isinstance(made, Optimizer):
        raise TypeError(f"the method {method.kind!r} returned a {type(made).__name__}; an optimizer is needed")
    return made


def scheduler_of(workload: Workload | FineTuning, base: Optimizer) -> LRScheduler:
    """Return the learning rates, to be stepped once an epoch."""
    if isinstance(workload, FineTuning) and (warmup := workload.warmup):
        rest = workload.model_copy(update={"epochs": workload.epochs - warmup, "warmup": 0})
        both = [LinearLR(base, 1 / (warmup + 1), total_iters=warmup), scheduler_of(rest, base)]
        return SequentialLR(base, both, [warmup])
    match workload.schedule:
        case "cosine":
            return CosineAnnealingLR(base, T_max=workload.epochs)
        case "constant":
            return ConstantLR(base, factor=1.0)
        case "steps":
            return MultiStepLR(base, list(workload.milestones), gamma=workload.factor)


def segments(run: Run) -> list[tuple[Method, int]]:
    """Return the methods of a run, each with the number of epochs after which it ends."""
    ends = {run.method_at(epoch): epoch + 1 for epoch in range(run.workload.epochs)}
    return list(ends.items())
