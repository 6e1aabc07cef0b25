"""What a type checker says of a user's code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RIGHT = """
from collections.abc import Callable
import torch
from torch import Tensor
from lookbehind import ASAM, SAM, Adaptive, Lookahead, Lookbehind, MultistepSAM

def closure() -> Tensor:
    raise NotImplementedError

def train(base: torch.optim.Optimizer, net: torch.nn.Module, scaler: torch.amp.GradScaler) -> None:
    sam = SAM(base, rho=0.1, perturbation="asam", model=net, nonfinite="skip", rollback="full", same_dropout=True)
    loss: Tensor = sam.step(closure)
    number: float = sam.step(lambda: 1.0, grad_scaler=scaler)
    behind = Lookbehind(base, k=2, alpha="adaptive", perturbation=Adaptive(eta=0.0), sync_ascent=False)
    switched: Tensor = behind.step([closure, closure])
    same: Tensor = behind.step(closure)
    MultistepSAM(base, gradient="mean")
    ASAM(base, rho=1.0, eta=0.1)
    ahead = Lookahead(base, k=5, alpha=0.5, nonfinite="raise")
    nothing: None = ahead.step()
    with ahead.slow_weights():
        ahead.begin_cycle()
"""

WRONG = [
    'SAM(base, perturbation="adsam")',
    'Lookbehind(base, alpha="adaptve")',
    'SAM(base, nonfinite="ignore")',
    'SAM(base, rollback="none")',
    'MultistepSAM(base, gradient="sum")',
    "SAM(base, adaptive=True)",
    "SAM(base, sync_ascent=1.5)",
    "SAM(base).step(loss)",
    "Lookbehind(base).step(loss)",
    "Lookbehind(base).step([loss])",
    "SAM(base).step([closure])",
    "x: int = SAM(base).step(closure)",
    "Lookahead(base, model=net)",
    "SAM(net.parameters())",
    "SAM(base, perturbation=lambda w, g: g)",
]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[int], int]:
    pytest.importorskip("mypy")
    folder = tmp_path_factory.mktemp("typing")
    first = RIGHT.count("\n") + 3
    wrong = "\n".join(f"    {line}" for line in WRONG)
    (folder / "code.py").write_text(
        f"{RIGHT}\ndef wrong(base: torch.optim.Optimizer, net: torch.nn.Module, loss: Tensor) -> None:\n{wrong}\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--no-error-summary",
            "--cache-dir",
            str(folder / "cache"),
            "code.py",
        ],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    lines = [int(line.split(":")[1]) for line in done.stdout.splitlines() if "error" in line]
    return done.stdout + done.stderr, lines, first


def test_right_code_has_no_finding(found: tuple[str, list[int], int]) -> None:
    output, lines, first = found
    assert not [line for line in lines if line < first], output


@pytest.mark.parametrize("index", range(len(WRONG)), ids=WRONG)
def test_wrong_code_has_one(found: tuple[str, list[int], int], index: int) -> None:
    output, lines, first = found
    assert first + index in lines, output


def test_the_package_is_typed() -> None:
    import lookbehind

    assert (Path(lookbehind.__file__).parent / "py.typed").exists()
