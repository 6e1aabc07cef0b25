"""`lookbehind list`, `models`, `show`, `run` and `report`: the paper's tables and figures."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional

from lookbehind.cli.errors import UserError, some, usable, writable, writing
from lookbehind.lab.engines.slurm_options import Slurm

if TYPE_CHECKING:
    from rich.console import Console

    from lookbehind.lab import Store
    from lookbehind.lab.parts import Part
    from lookbehind.lab.progress import Watch

Scale = Literal["smoke", "cpu", "paper"]
Names = Annotated[tuple[str, ...], Positional]
STORE = Path("lab")


def list_items() -> None:
    """List the tables and figures, with what each costs at each scale."""
    from rich import box
    from rich.table import Table

    from lookbehind.lab.estimate import duration, estimate
    from lookbehind.paper import DEVICES, ITEMS, SCALES

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("item")
    table.add_column("what it shows")
    for scale in SCALES:
        table.add_column(f"{scale}: runs, time", justify="right")
    for name, item in ITEMS.items():
        costs = [estimate(item.at(scale).parts, DEVICES[scale]) for scale in SCALES]
        table.add_row(name, item.title, *(f"{cost.runs:,}, {duration(cost.hours)}" for cost in costs))
    parts = {scale: [part for item in ITEMS.values() for part in item.at(scale).parts] for scale in SCALES}
    costs = [estimate(parts[scale], DEVICES[scale]) for scale in SCALES]
    table.add_section()
    table.add_row("all", "runs that items share are trained once", *(f"{c.runs:,}, {duration(c.hours)}" for c in costs))
    table.caption = "; ".join(f"{scale}: {DEVICES[scale].name}" for scale in SCALES[1:])
    _console().print(table)


def list_models() -> None:
    """List the models and the data sets that there are."""
    from rich import box
    from rich.table import Table

    from lookbehind.data import DATASETS, default_root
    from lookbehind.models import MODELS

    models = Table(title="models, for 3 channels and 10 classes", box=box.SIMPLE_HEAD)
    models.add_column("name")
    models.add_column("what it is")
    for name, model in MODELS.items():
        models.add_row(name, model.description)
    data = Table(title=f"data sets, under {default_root()}", box=box.SIMPLE_HEAD)
    for head in ("name", "title", "sizes", "files"):
        data.add_column(head)
    for name, dataset in DATASETS.items():
        files = ", ".join(file.name for file in dataset.files) or "in scikit-learn" * (name == "digits") or "a folder"
        data.add_row(name, dataset.title, ", ".join(map(str, dataset.sizes)), files)
    console = _console()
    console.print(models)
    console.print(data)


def show(items: Names, scale: Scale = "cpu", store: Path = STORE) -> None:
    """Show what items need: runs, how many are done, and the cost of the rest.

    Args:
        items: names as `lookbehind list` gives them, or all.
        scale: smoke for seconds, cpu for minutes on two cores, paper for the paper's own settings.
        store: folder with finished runs.

    """
    from rich import box
    from rich.table import Table

    from lookbehind.lab.estimate import duration, estimate
    from lookbehind.lab.report import tasks_now
    from lookbehind.paper import DEVICES

    console = _console()
    kept = _store(store, console)
    table = Table(title=f"scale {scale}", box=box.SIMPLE_HEAD)
    for head in ("item", "runs", "done", "failed", "gradient evaluations", "time", "left"):
        table.add_column(head, justify="left" if head == "item" else "right")
    chosen = _chosen(items, scale)
    if len(chosen) > 1:
        chosen["together"] = tuple(part for parts in chosen.values() for part in parts)
    with writing(store, "--store"):
        for name, parts in chosen.items():
            cost = estimate(parts, DEVICES[scale], kept)
            failed = sum(kept.failure(run) is not None for run, _ in tasks_now(parts, kept))
            table.add_row(
                name,
                f"{cost.runs:,}",
                f"{cost.done:,}",
                f"{failed:,}" if failed else "",
                f"{cost.gradients:,}",
                duration(cost.hours),
                duration(cost.hours_left),
            )
    table.caption = f"on {DEVICES[scale].name}; at most, as far as selections decide what is needed"
    console.print(table)


def run(
    items: Names,
    scale: Scale = "cpu",
    store: Path = STORE,
    processes: int | None = None,
    device: tuple[str, ...] = ("cpu",),
    tensorboard: bool = False,
    engine: Literal["local", "slurm", "torchrun"] = "local",
    slurm: Slurm = Slurm(),  # noqa: B008
) -> None:
    """Train and measure what items need and the store does not have.

    Finished runs are never done again, unfinished ones go on from their last checkpoint, and items share runs. Several
    commands can work on one store at once.

    Args:
        items: names as `lookbehind list` gives them, or all.
        scale: smoke for seconds, cpu for minutes on two cores, paper for the paper's own settings.
        store: folder for runs.
        processes: runs at a time; if not said, one for each core, or for each device.
        device: where to train, such as cuda:0 cuda:1; runs take them in turn. With engine torchrun: cpu or cuda.
        tensorboard: write curves for TensorBoard too.
        engine: local for this machine, slurm for jobs of a cluster, torchrun for each run on all processes that
            torchrun has started.
        slurm: what is asked of Slurm.

    """
    if processes is not None and (processes < 1 or engine != "local"):
        allowed = "at least 1 is needed" if engine == "local" else f"engine {engine} takes none"
        raise UserError(f"--processes is {processes}; {allowed}")
    if engine == "torchrun" and device not in (("cpu",), ("cuda",)):
        raise UserError(f"--device is {' '.join(device)}; with engine torchrun it is cpu or cuda")
    if engine == "slurm" and device != ("cpu",):
        raise UserError(f"--device is {' '.join(device)}; engine slurm goes by --slurm.gpus")
    some("--device", device, "cpu")
    for one in device:
        usable(one)
    console = _console()
    with _filling(engine, _store(store, console), console, processes, device, slurm) as (kept, fill):
        _run(items, scale, kept, fill, console, tensorboard)


def _run(
    items: Names, scale: Scale, kept: Store, fill: Callable[..., dict[Any, str]], console: Console, tensorboard: bool
) -> None:
    from lookbehind.lab.report import tasks_now

    parts = [part for of_item in _chosen(items, scale).values() for part in of_item]
    failed: dict[Any, str] = {}
    try:
        with writing(kept.root, "--store"):
            # What is best decides what else is needed, such as controls at the chosen α and k.
            while wanted := [t for t in tasks_now(parts, kept) if t[0] not in failed and not kept.complete(*t)]:
                with _watch(console, wanted) as progress:
                    failed |= fill(wanted, kept, on_event=progress.hear, tensorboard=tensorboard)
    except ValueError as error:  # data that are not there
        raise UserError(str(error)) from error
    for one_run, reason in failed.items():
        _say(console, f"failed: {one_run.workload.title}, {one_run.method.title}, seed {one_run.seed}: {reason}")
    if failed:
        raise UserError(
            f"{len(failed)} runs failed; what went wrong is in their folders, and the same command tries again"
        )
    command = shlex.join(["lookbehind", "report", *items, "--scale", scale, "--store", str(kept.root)])
    _say(console, f"All runs of {', '.join(items)} at scale {scale} are in {kept.root}. See: {command}")


@contextmanager
def _filling(
    engine: str, store: Store, console: Console, processes: int | None, device: Sequence[str], cluster: Slurm
) -> Iterator[tuple[Store, Callable[..., dict[Any, str]]]]:
    """Yield the store as an engine sees it, and what fills it."""
    if engine == "local":
        from lookbehind.lab.engines import local

        yield store, partial(local.fill, processes=processes, devices=device)
    elif engine == "slurm":
        from lookbehind.lab.engines import slurm

        yield store, partial(slurm.fill, cluster=cluster, say=lambda sentence: _say(console, sentence))
    else:
        from lookbehind.lab.engines import torchrun

        try:
            with torchrun.together(store, device[0]) as shared:
                console.quiet = not shared.first
                yield shared, partial(torchrun.fill, device=device[0])
        except ValueError as error:
            raise UserError(str(error)) from error


def report(items: Names, scale: Scale = "cpu", store: Path = STORE, output: Path = Path("report")) -> None:
    """Write tables and figures of items from finished runs: a page for each and an index, CSV and LaTeX.

    Nothing is trained; what is missing is shown as missing.

    Args:
        items: names as `lookbehind list` gives them, or all.
        scale: smoke for seconds, cpu for minutes on two cores, paper for the paper's own settings.
        store: folder with finished runs.
        output: folder for the pages.

    """
    from lookbehind.lab.page import write
    from lookbehind.paper import DEVICES, ITEMS

    console = _console()
    kept = _store(store, console)
    chosen = [ITEMS[name] for name in _chosen(items, scale)]
    writable(output, "--output")
    with writing(output, "--output"):
        paths = write(chosen, kept, output, scale, device=DEVICES[scale])
    if not kept.root.is_dir():
        _say(console, f"There is no store at {kept.root}, so every value is shown as missing; --store names another")
    _say(console, f"Written: {paths[-1]} and {len(paths) - 1} more files in {output}")


COMMANDS = {"list": list_items, "models": list_models, "show": show, "run": run, "report": report}


def _chosen(items: Sequence[str], scale: str) -> dict[str, tuple[Part, ...]]:
    from lookbehind.paper import ITEMS

    unknown = [name for name in items if name not in ITEMS and name != "all"]
    if unknown or not items:
        given = f"item {unknown[0]!r} is unknown" if unknown else "no item is named"
        raise UserError(f"{given}; there are all, {', '.join(ITEMS)}")
    names = list(ITEMS) if "all" in items else [name for name in ITEMS if name in items]
    return {name: ITEMS[name].at(scale).parts for name in names}


def _store(path: Path, console: Console) -> Store:
    from lookbehind.lab import Store

    if path.exists() and not path.is_dir():
        raise UserError(f"--store is {path}, which is not a folder; name a folder")
    try:
        return Store(path, say=lambda sentence: _say(console, sentence))
    except RuntimeError as error:  # "~" without a home
        raise UserError(f"--store is {path}, whose home folder is unknown; name a folder without ~") from error


def _console() -> Console:
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=150)


def _say(console: Console, sentence: str) -> None:
    console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def _watch(console: Console, wanted: Sequence[tuple[Any, Any]]) -> Watch:
    from lookbehind.lab.estimate import gradients
    from lookbehind.lab.progress import Watch

    total = len(wanted)
    if not console.is_terminal:
        _say(console, f"{total} runs to do on {platform.processor() or platform.machine()}")

    def say(event: Any, ended: int) -> None:
        # A log wants to know, but not of each run of hundreds.
        if ended % max(1, total // 20) == 0:
            _say(console, f"{ended} of {total} runs")

    return Watch(console, {run: gradients(run) for run, _ in wanted}, say=say)
