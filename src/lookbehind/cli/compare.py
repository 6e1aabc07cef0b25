"""`lookbehind compare`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from lookbehind.cli.errors import NEEDS_LAB, UserError, WorkerLostError, some, usable, writing

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
    study: Path | None = None,
) -> None:
    """Compare optimizers on 1,797 real handwritten digits, with noisy and with clean labels, or on a study's workload.

    Examples: `lookbehind compare --quick`; `lookbehind compare --methods sgd sam lookbehind --labels noisy`.

    Trains SGD, SAM, Multistep-SAM, Lookahead-SAM and Lookbehind-SAM (fixed and adaptive α). Controls are SAM at radius
    k·ρ, SAM at learning rate α·k·η, and SGD and SAM for as many gradients as Lookbehind. Shows test accuracy, accuracy
    with noisy weights, training loss, m-sharpness and cost, and writes tables, numbers and a picture. Finished runs
    stay on disk: the same command continues where it stopped.

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
        quick: 6 epochs, and one seed unless --seeds says otherwise: about a minute on two idle cores. Too little to
            tell methods apart.
        study: file of a study that declares what to compare on, by study.compare("title", workload).

    """
    try:
        from rich.console import Console

        from lookbehind.compare import command, items
    except ImportError as error:
        raise UserError(NEEDS_LAB) from error
    if find_spec("sklearn") is None:  # whose digits only the workers read
        raise UserError(NEEDS_LAB)
    seeds = (1 if quick else 4) if seeds is None else seeds
    _check(seeds=seeds, rho=rho, k=k, alpha=alpha, radius=radius, device=device)
    if study is not None and labels != "both":
        raise UserError(f"--labels is {labels}; they are those of the digits, and --study brings its own")
    prepare, workloads = _declared(study) if study is not None else (None, {})
    workloads = workloads or {name: items.digits(name) for name in items.LABELS if labels in (name, "both")}
    comparisons = [
        items.Comparison(
            name,
            items.quick(workload) if quick else workload,
            tuple(method for method in items.METHODS if method in (methods or items.METHODS)),
            seeds=seeds,
            rho=rho,
            k=k,
            alpha=alpha,
            radii=tuple(sorted(set(radius))),
        )
        for name, workload in workloads.items()
    ]
    console = Console()
    if not console.is_terminal:
        console = Console(width=170)
    try:
        with writing("--output"):
            command.compare(comparisons, output, console, device, prepare)
    except command.FailedError as error:
        raise WorkerLostError(f"{error}; finished runs are kept, and the same command continues") from error


def _declared(path: Path) -> tuple[Any, dict[str, Any]]:
    """Return what a process that trains calls first, and the workloads of a study."""
    from functools import partial

    from lookbehind.cli.studies import load_study
    from lookbehind.lab.study import load_all

    where = str(path.expanduser().resolve())
    declared = load_study(where)
    if not declared.comparisons:
        raise UserError(f'{path} declares nothing to compare on; write study.compare("title", workload) in it')
    return partial(load_all, (where,)), declared.comparisons


def _check(*, seeds: int, rho: float, k: int, alpha: float, radius: Sequence[float], device: str) -> None:
    """Say what is wrong with a value, before anything is trained."""
    from lookbehind._checks import count, fraction, nonnegative

    try:
        count("--seeds", seeds)
        count("--k", k)
        nonnegative("--rho", rho)
        fraction("--alpha", alpha)
        for r in radius:
            nonnegative("--radius", r)
    except ValueError as error:
        raise UserError(str(error)) from error
    some("--radius", radius, "0.05 0.2")
    usable(device)
