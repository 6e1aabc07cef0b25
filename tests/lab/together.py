"""What two processes under torchrun do for tests/lab/test_torchrun.py: ``together.py STORE [DIE_AFTER]``."""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from pathlib import Path

from torch import nn

from lookbehind.lab import Method, NoiseSettings, Run, Store, Workload
from lookbehind.lab.engines import torchrun
from lookbehind.models import MODELS, Model

# The last minibatch of 43 images has 11, which cannot be divided over two.
WORKLOAD = Workload(dataset="digits", model="perceptron", train=43, validation=20, test=30, batch=16, epochs=4)
METHODS = (
    Method(kind="base"),
    Method(kind="lookbehind", perturbation="sam", rho=0.1, k=2, alpha="adaptive"),
    Method(kind="lookahead", perturbation="sam", rho=0.1, k=2, alpha=0.5),
)
RUNS = [Run(workload=WORKLOAD, method=method) for method in METHODS]
NOISE = NoiseSettings(sigmas=(0.1,), draws=2)


def perceptron(channels: int, classes: int) -> nn.Module:
    """A net without batch norm, whose statistics would be those of a process's share."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * channels, 16), nn.Tanh(), nn.Linear(16, classes))


def prepare() -> None:
    MODELS["perceptron"] = Model(perceptron, "for tests")  # type: ignore[index]


def main(root: str, die_after: int | None = None) -> None:
    epochs = 0

    def hear(event: torchrun.Event) -> None:
        nonlocal epochs
        epochs += event.kind == "epoch"
        if epochs == die_after:
            os.kill(os.getpid(), signal.SIGKILL)

    with torchrun.together(Store(Path(root))) as store:
        fill = partial(torchrun.fill, on_event=hear, prepare=prepare, save_every=0)
        fill([(run, (NOISE,)) for run in RUNS], store)
        fill([(run, (NOISE,)) for run in RUNS], store)  # all is done


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
