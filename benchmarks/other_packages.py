"""Another package's SAM where this one promises something: pytorch_optimizer's, the most used on PyPI.

pip install pytorch_optimizer==4.1.0
python -m benchmarks.other_packages      not by its path: this folder has a transformers.py

The answers are those of docs/migrating.md. Each line is one experiment on a small net with both packages.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

import lookbehind

try:
    import pytorch_optimizer
except ModuleNotFoundError as error:
    if error.name != "pytorch_optimizer":
        raise
    raise SystemExit('pytorch_optimizer is not installed; pip install -e ".[bench]"') from None

torch.manual_seed(0)
INPUTS, TARGETS = torch.randn(6, 8, 4), torch.randn(6, 8, 1)


class Trial:
    """A net and its optimizer, ours or theirs."""

    def __init__(self, ours: bool, net: nn.Module | None = None, rho: float = 0.5, momentum: float = 0.0) -> None:
        torch.manual_seed(1)
        self.net = net or nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        self.calls = 0
        parameters = self.net.parameters()
        self.optimizer: Any = (
            lookbehind.SAM(torch.optim.SGD(parameters, lr=0.1, momentum=momentum), rho=rho)
            if ours
            else pytorch_optimizer.SAM(parameters, torch.optim.SGD, rho=rho, lr=0.1, momentum=momentum)
        )

    def closure(self, i: int = 0, scaler: torch.amp.GradScaler | None = None) -> Callable[[], Tensor]:
        def closure() -> Tensor:
            self.calls += 1
            self.optimizer.zero_grad()
            loss = nn.functional.mse_loss(self.net(INPUTS[i]), TARGETS[i])
            (loss if scaler is None else scaler.scale(loss)).backward()
            return loss

        return closure

    def weights(self) -> Tensor:
        return torch.cat([p.detach().flatten() for p in self.net.parameters()])


def ordinary_closure(ours: bool) -> str:
    trial, sgd = Trial(ours), Trial(ours, rho=0.0)
    for t in (trial, sgd):
        t.optimizer.step(t.closure())
    same = torch.equal(trial.weights(), sgd.weights())
    return f"{trial.calls} gradient(s); the first step is " + ("plain SGD's" if same else "SAM's")


def loss_returned(ours: bool) -> str:
    trial = Trial(ours)
    trial.closure()()
    return type(trial.optimizer.step(trial.closure())).__name__


def failing_closure(ours: bool) -> str:
    trial = Trial(ours)
    trial.closure()()
    before = trial.weights()

    def failing() -> Tensor:
        loss = trial.closure()()
        if not torch.equal(trial.weights(), before):
            raise MemoryError
        return loss

    try:
        trial.optimizer.step(failing)
    except MemoryError:
        return f"weights are off by {(trial.weights() - before).norm():.2f}"
    return "?"


def grad_scaler(ours: bool) -> str:
    trial, unscaled, scaler = Trial(ours), Trial(ours), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    if ours:
        trial.optimizer.step(trial.closure(0, scaler), grad_scaler=scaler)
    else:
        trial.closure(0, scaler)()
        scaler.step(trial.optimizer, trial.closure(0, scaler))
        unscaled.closure()()
    start = unscaled.weights()
    unscaled.optimizer.step(unscaled.closure())
    ratio = (trial.weights() - start).norm() / (unscaled.weights() - start).norm()
    return f"the step is {ratio:.0f} times the unscaled one"


def batch_norm(ours: bool) -> str:
    net = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1))
    trial = Trial(ours, net)
    if ours:
        trial.optimizer.model = net  # as SAM(base, model=net)
    trial.closure()() if not ours else None
    trial.optimizer.step(trial.closure())
    return f"{int(net[0].num_batches_tracked)} minibatch(es) tracked for one"


def deepcopy(ours: bool) -> str:
    trial = Trial(ours)
    try:
        copied = copy.deepcopy(trial.optimizer)
        trial.closure()()
        copied.step(trial.closure())
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "a copy steps"


def main() -> None:
    """Print a line for each experiment."""
    print(f"pytorch_optimizer {version('pytorch_optimizer')}, torch {torch.__version__}")
    for experiment in (ordinary_closure, loss_returned, failing_closure, grad_scaler, batch_norm, deepcopy):
        name = experiment.__name__.replace("_", " ")
        print(f"{name}\n  theirs: {experiment(False)}\n  ours:   {experiment(True)}")


if __name__ == "__main__":
    main()
