"""The command line. Heavy imports wait until a command needs them, so that help comes at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path
from typing import Literal

from lookbehind import __version__

# A mistake of the user's: exit code 2, as argument parsers have it.
MISTAKE = 2
INTERRUPTED = 130
NEEDS_LAB = "the command line needs the extra 'lab': pip install 'lookbehind[lab]'"

MethodName = Literal[
    "sgd",
    "sam",
    "multistep",
    "lookahead",
    "lookbehind",
    "lookbehind-adaptive",
    "sam-radius",
    "sam-rate",
    "sgd-longer",
    "sam-longer",
]


class UserError(Exception):
    """A mistake that one sentence can explain."""

    code = MISTAKE


class WorkerLostError(UserError):
    """A worker process that somebody else ended; no mistake of the user's."""

    code = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0, 2 for a mistake, 130 for Ctrl-C."""
    # Waiting OpenMP threads that spin make a busy machine many times slower. Torch reads this when it is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Greek letters must not stop the command where the terminal or a pipe has no Unicode.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments in (["--version"], ["-V"]):
        print(f"lookbehind {__version__}")
        return 0
    try:
        return _dispatch(arguments)
    except UserError as error:
        print(f"lookbehind: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("lookbehind: interrupted; finished runs are kept, and the same command continues", file=sys.stderr)
        return INTERRUPTED


def _dispatch(arguments: Sequence[str]) -> int:
    try:
        from tyro.extras import SubcommandApp
    except ImportError:
        raise UserError(NEEDS_LAB) from None
    app = SubcommandApp()
    app.command(compare)
    about = "Sharpness-aware optimisation for PyTorch, measured."
    app.cli(args=list(arguments) or ["--help"], prog="lookbehind", description=about)
    return 0


def compare(
    methods: tuple[MethodName, ...] = (),
    labels: Literal["noisy", "clean", "both"] = "both",
    seeds: int | None = None,
    rho: float = 0.2,
    k: int = 2,
    alpha: float = 0.8,
    radius: tuple[float, ...] = (0.05, 0.2, 0.5),
    device: str = "cpu",
    output: Path = Path("compare"),
    quick: bool = False,
) -> None:
    """Compare optimizers on 1,797 real handwritten digits, with noisy and with clean labels.

    Trains SGD, SAM, Multistep-SAM, Lookahead-SAM and Lookbehind-SAM (fixed and adaptive α), and as controls SAM at
    radius k·ρ, SAM at learning rate α·k·η, and SGD and SAM for as many gradients as Lookbehind. Shows test accuracy,
    accuracy with noisy weights, training loss, m-sharpness and cost, and writes tables, numbers and a picture. Finished
    runs stay on disk: the same command continues where it stopped.

    Args:
        methods: which methods; all if none is named.
        labels: 40 % of the training labels drawn anew, clean ones, or both.
        seeds: how many seeds, each with its own split, label noise, initial weights and order of data; 4 if not said,
            and 1 with --quick.
        rho: neighbourhood size ρ, the same for all methods.
        k: inner steps.
        alpha: outer step size α of Lookahead and Lookbehind, in (0, 1].
        radius: radii at which m-sharpness is measured.
        device: where to train, such as cpu, cuda or mps.
        output: folder for finished runs and results.
        quick: 6 epochs, and one seed unless --seeds says otherwise: less than half a minute. Too little to tell methods
            apart.

    """
    try:
        from concurrent.futures.process import BrokenProcessPool

        from rich.console import Console

        from lookbehind.compare import command, runs
    except ImportError:
        raise UserError(NEEDS_LAB) from None
    if find_spec("sklearn") is None:  # imported by the workers only, since it takes a second
        raise UserError(NEEDS_LAB)
    seeds = (1 if quick else 4) if seeds is None else seeds
    _check(seeds=seeds, rho=rho, k=k, alpha=alpha, radius=radius, device=device)
    planned = runs.plan(
        [m for m in runs.METHODS if m in methods] if methods else list(runs.METHODS),
        ("noisy", "clean") if labels == "both" else (labels,),
        seeds=seeds,
        epochs=6 if quick else 20,
        rho=rho,
        k=k,
        alpha=alpha,
        radii=tuple(sorted(set(radius))),
        device=device,
    )
    console = Console()
    if not console.is_terminal:
        console = Console(width=170)
    try:
        command.compare(planned, output, console)
    except BrokenProcessPool:
        raise WorkerLostError(
            "a worker process was ended from outside, perhaps for want of memory; finished runs are kept, and the same "
            "command continues"
        ) from None
    except OSError as error:
        place = error.filename or output
        reason = error.strerror or error
        raise UserError(f"{place} cannot be written ({reason}); choose another --output or make room") from None


def _check(*, seeds: int, rho: float, k: int, alpha: float, radius: Sequence[float], device: str) -> None:
    """Say what is wrong with a value, before anything is trained."""
    import torch

    from lookbehind.optim._arguments import count, fraction, nonnegative

    try:
        count("--seeds", seeds)
        count("--k", k)
        nonnegative("--rho", rho)
        fraction("--alpha", alpha)
        for r in radius:
            nonnegative("--radius", r)
    except ValueError as error:
        raise UserError(str(error)) from None
    if not radius:
        raise UserError("--radius is empty; at least one radius is needed, such as --radius 0.05 0.2")
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--device is {device!r}, which cannot be used here ({reason}); cpu always works") from None


if __name__ == "__main__":
    sys.exit(main())
