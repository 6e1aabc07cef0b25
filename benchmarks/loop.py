"""The whole lab: images per second of the training loop with the lab's data, against a bare loop over tensors.

And m-sharpness of a trained net at 11 radii, against an epoch.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from benchmarks.timing import alternately, timed
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from lookbehind import SAM, Lookbehind
from lookbehind.data import load
from lookbehind.measure import m_sharpness
from lookbehind.models import build
from lookbehind.paper.workloads import DIGITS, FASHION
from lookbehind.training import fit

METHODS: dict[str, Callable[[Optimizer], Optimizer]] = {"SGD": lambda base: base, "SAM": SAM, "Lookbehind": Lookbehind}
RADII = [r / 20 for r in range(11)]


@dataclass(frozen=True)
class Row:
    """One workload and method: images per second, an epoch each."""

    workload: str
    method: str
    images: int
    lab: float  # images per second of fit with the lab's data
    tensors: float  # of fit with minibatches that are tensors in memory
    bare: float  # of closures and steps on such minibatches, and nothing else
    gradients_only: float  # of those closures without steps; 1, 2 or 3 a step
    slower: float  # how much longer the lab's epoch takes than the bare one: median of the ratios
    low: float
    high: float
    sharpness_epochs: float  # time of m-sharpness over 11 radii, in bare epochs


def measured(seconds: float) -> Iterator[Row]:
    """Measure on the workloads of scale cpu."""
    for name, workload in (("digits", DIGITS), ("Fashion-MNIST", FASHION)):
        data = load(
            workload.dataset,
            train=workload.train,
            validation=workload.validation,
            test=workload.test,
            noise=workload.noise,
            size=workload.size,
        )
        for method, make in METHODS.items():
            torch.manual_seed(0)
            model = build(workload.model, channels=data.channels)
            optimizer = make(SGD(model.parameters(), lr=workload.lr, momentum=0.9, weight_decay=workload.weight_decay))
            minibatches = data.train.shuffled(workload.batch, augment=workload.augment)
            tensors = list(minibatches)
            fit(model, optimizer, tensors, epochs=2)
            measuring = list(data.train.minibatches(125))
            actions = {  # those that are compared, one after the other
                "tensors": timed(lambda m=model, o=optimizer, d=tensors: fit(m, o, d, epochs=1)),
                "lab": timed(lambda m=model, o=optimizer, d=minibatches: fit(m, o, d, epochs=1)),
                "bare": timed(lambda m=model, o=optimizer, d=tensors: bare(m, o, d)),
                "gradients": timed(lambda m=model, o=optimizer, d=tensors: bare(m, o, d, steps=False)),
            }
            found = alternately(actions, seconds / 8, rounds=200)
            sharpness = timed(lambda m=model, d=measuring: m_sharpness(m, nn.functional.cross_entropy, d, RADII))
            # Apart, since an epoch that comes after it would be slower than one that comes after an epoch.
            apart = alternately({"sharpness": sharpness, "bare": actions["bare"]}, seconds / 24)
            in_epochs = statistics.median(apart["sharpness"]) / statistics.median(apart["bare"])
            median = {what: statistics.median(times) for what, times in found.items()}
            slower = [lab / base for lab, base in zip(found["lab"], found["bare"], strict=False)]
            low, _, high = statistics.quantiles(slower, n=4)
            images = len(data.train)
            yield Row(
                workload=name,
                method=method,
                images=images,
                lab=images / median["lab"],
                tensors=images / median["tensors"],
                bare=images / median["bare"],
                gradients_only=images / median["gradients"],
                slower=statistics.median(slower),
                low=low,
                high=high,
                sharpness_epochs=in_epochs,
            )


def bare(model: nn.Module, optimizer: Optimizer, minibatches: list[tuple[Tensor, Tensor]], steps: bool = True) -> None:
    """Train on each minibatch and do nothing else."""
    model.train()
    for inputs, targets in minibatches:

        def closure(inputs: Tensor = inputs, targets: Tensor = targets) -> Any:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), targets)
            loss.backward()
            return loss

        if steps:
            optimizer.step(closure)
        else:
            closure()
