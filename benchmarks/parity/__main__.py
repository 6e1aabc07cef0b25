"""Our methods beside their authors' code, weight by weight over 20 steps in float64.

pip install -e .
git clone https://github.com/juntang-zhuang/GSAM && python -m benchmarks.parity gsam GSAM

The folder is searched for the class. Only its definition is run, without the file's imports, so nothing of what those
need has to be installed. Nothing of the code is kept here.

LookSAM's authors have published none: `python -m benchmarks.parity looksam` compares with an installed package.
"""

from __future__ import annotations

import argparse
import ast
import csv
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lookbehind import GSAM, WSAM, XSAM, FriendlySAM, LookSAM, MomentumSAM, VaSSO

STEPS, RHO = 20, 0.1
RESULTS = Path(__file__).resolve().parent.parent / "results" / "parity.csv"
FIELDS = ("method", "class", "difference", "with decay", "remains")


class Task:
    """A small net in float64, of one tensor or several, and its loss on one of eight minibatches."""

    def __init__(self, *, one_tensor: bool = False) -> None:
        generator = torch.Generator().manual_seed(0)
        layers = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
        self.net = (nn.Linear(6, 3, bias=False) if one_tensor else layers).double()
        with torch.no_grad():
            for p in self.net.parameters():
                p.copy_(0.5 * torch.randn(p.shape, generator=generator, dtype=torch.float64))
        self.inputs = torch.randn(8, 16, 6, generator=generator, dtype=torch.float64)
        self.targets = torch.randint(3, (8, 16), generator=generator)

    def backward(self, i: int) -> Tensor:
        self.net.zero_grad()
        with torch.enable_grad():
            loss = nn.functional.cross_entropy(self.net(self.inputs[i % 8]), self.targets[i % 8])
        loss.backward()
        return loss

    def sgd(self, **options: Any) -> torch.optim.SGD:
        return torch.optim.SGD(self.net.parameters(), lr=0.1, momentum=0.9, **options)


def definition(folder: Path, name: str) -> Any:
    """Return a class of the folder, without its decorators."""
    for file in sorted(folder.rglob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8", errors="replace")).body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                node.decorator_list = []
                for method in node.body:
                    if isinstance(method, ast.FunctionDef):
                        method.decorator_list = [d for d in method.decorator_list if "configurable" not in ast.dump(d)]
                namespace: dict[str, Any] = {
                    "torch": torch,
                    "math": math,
                    "dist": torch.distributed,
                }
                namespace |= {"enable_running_stats": lambda _: None, "disable_running_stats": lambda _: None}
                exec(compile(ast.Module([node], []), str(file), "exec"), namespace)
                return namespace[name]
    raise SystemExit(f"{folder} has no class {name}; give the folder of the authors' code")


def in_two_steps(task: Task, optimizer: Any) -> Callable[[int], object]:
    def step(i: int) -> None:
        task.backward(i)
        optimizer.first_step(zero_grad=True)
        task.backward(i)
        optimizer.second_step()

    return step


def gsam(task: Task, kind: Any, decay: float) -> Callable[[int], object]:
    class Constant:
        def step(self) -> float:
            return RHO

    optimizer = kind(task.net.parameters(), task.sgd(weight_decay=decay), task.net, 0.4, Constant())
    return lambda i: optimizer.step(lambda: (None, task.backward(i)))


def friendly_sam(task: Task, kind: Any, decay: float) -> Callable[[int], object]:
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": decay}
    return in_two_steps(task, kind(task.net.parameters(), torch.optim.SGD, rho=RHO, sigma=1, lmbda=0.9, **options))


def vasso(task: Task, kind: Any, decay: float) -> Callable[[int], object]:
    return in_two_steps(task, kind(task.net.parameters(), task.sgd(weight_decay=decay), rho=RHO, theta=0.9))


def wsam(task: Task, kind: Any, decay: float) -> Callable[[int], object]:
    optimizer = kind(task.net, task.sgd(weight_decay=decay), rho=RHO, gamma=0.6)
    return lambda i: optimizer.step(lambda: task.backward(i))


def xsam(task: Task, kind: Any, decay: float) -> Callable[[int], object]:
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": decay}
    grid = {"rho_max": 0.3, "alpha": 0.6, "alpha_max": 2.0, "alpha_delta": 0.1, "eps": 1e-12}
    optimizer = kind(task.net.parameters(), torch.optim.SGD, 1, RHO, **grid, **options)

    def step(i: int) -> None:
        optimizer.backup_param()
        task.backward(i)
        optimizer.first_step(0)
        task.backward(i)
        optimizer.second_step(False, None, None, None, None)

    return step


def momentum_sam(task: Task, kind: Any, decay: float) -> Callable[[int], object]:
    optimizer = kind(task.net.parameters(), lr=0.1, momentum=0.9, weight_decay=decay, rho=RHO)

    def step(i: int) -> None:
        if i:
            optimizer.move_up_to_momentumAscent()
        task.backward(i)
        optimizer.step()
        optimizer.move_back_from_momentumAscent()  # as its authors do before they evaluate

    return step


def looksam(task: Task, kind: Any, decay: float) -> Callable[[int], object]:
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": decay}
    optimizer = kind(task.net.parameters(), torch.optim.SGD, rho=RHO, k=5, alpha=0.7, **options)

    def step(i: int) -> None:
        task.backward(i)
        optimizer.step(lambda: task.backward(i))

    return step


@dataclass(frozen=True)
class Pair:
    """A method of ours, the class of its authors, and what is known to part them."""

    name: str
    theirs: Callable[[Task, Any, float], Callable[[int], object]]
    ours: Callable[[torch.optim.Optimizer], Any]
    remains: str
    package: str = ""  # where others than the authors have written the class
    one_tensor: bool = False

    def kind(self, folder: Path | None) -> Any:
        """Return their class."""
        if self.package:
            return getattr(import_module(self.package), self.name)
        if folder is None:
            raise SystemExit(f"give the folder of the authors' code, which has the class {self.name}")
        return definition(folder, self.name)


PAIRS = {
    "gsam": Pair("GSAM", gsam, lambda base: GSAM(base, RHO, 0.4), "they add 10⁻¹² to norms"),
    "friendly_sam": Pair(
        "FriendlySAM", friendly_sam, lambda base: FriendlySAM(base, RHO, 1.0, 0.9), "they add 10⁻¹² to norms"
    ),
    "vasso": Pair("VASSO", vasso, lambda base: VaSSO(base, RHO, 0.9), "they add 10⁻⁷ to the norm, so ε is shorter"),
    "wsam": Pair("WeightedSAM", wsam, lambda base: WSAM(base, RHO, 0.6), "they add 10⁻¹² to norms"),
    "xsam": Pair("XSAM", xsam, lambda base: XSAM(base, RHO, 1, 0.6), "they add eps to norms; no clamp before arccos"),
    "momentum_sam": Pair(
        "MSAM",
        momentum_sam,
        lambda base: MomentumSAM(base, RHO),
        "with weight decay: they take it at the perturbed weights, we at the weights",
    ),
    "looksam": Pair(
        "LookSAM",
        looksam,
        lambda base: LookSAM(base, RHO, 5, 0.7),
        "pytorch_optimizer 4.1.0 projects each tensor by itself, not the whole gradient",
        package="pytorch_optimizer",
    ),
}
PAIRS["looksam-one-tensor"] = replace(
    PAIRS["looksam"], remains="a net of one tensor; pytorch_optimizer 4.1.0 adds 10⁻⁸ to a norm", one_tensor=True
)


def difference(pair: Pair, kind: Any, decay: float) -> float:
    """Return the largest difference of a weight over the steps."""
    a, b = Task(one_tensor=pair.one_tensor), Task(one_tensor=pair.one_tensor)
    theirs, ours, largest = pair.theirs(a, kind, decay), pair.ours(b.sgd(weight_decay=decay)), 0.0
    for i in range(STEPS):
        theirs(i)
        ours.step(lambda i=i: b.backward(i))
        gaps = (
            float((p - q).detach().abs().max()) for p, q in zip(a.net.parameters(), b.net.parameters(), strict=True)
        )
        largest = max(largest, *gaps)
    return largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=PAIRS)
    parser.add_argument("folder", type=Path, nargs="?", help="the folder of the authors' code")
    parser.add_argument("--keep", action="store_true", help="put the differences into benchmarks/results/parity.csv")
    chosen = parser.parse_args()
    pair = PAIRS[chosen.method]
    kind = pair.kind(chosen.folder)
    found = [f"{difference(pair, kind, decay):.1e}" for decay in (0.0, 0.01)]
    print(f"{pair.name}: {found[0]} over {STEPS} steps, {found[1]} with weight decay")
    print(f"known to remain: {pair.remains}")
    if chosen.keep:
        kept = {row["method"]: row for row in read()}
        kept[chosen.method] = dict(zip(FIELDS, (chosen.method, pair.name, *found, pair.remains), strict=True))
        with RESULTS.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(kept[method] for method in PAIRS if method in kept)


def read() -> list[dict[str, str]]:
    """Return the rows that are kept."""
    if not RESULTS.exists():
        return []
    with RESULTS.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
