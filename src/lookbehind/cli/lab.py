"""`lookbehind list`, `models`, `show`, `run` and `report`: the paper's tables and figures."""

from __future__ import annotations

import csv
import platform
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from lookbehind.cli.errors import UserError, some, usable, writable, writing
from lookbehind.cli.studies import Chosen, chosen, loaded, paper
from lookbehind.lab.engines.slurm_options import Slurm
from lookbehind.lab.terminal import print_fitting, say

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from lookbehind.lab import Store
    from lookbehind.lab.lookup import Results
    from lookbehind.lab.parts import Item
    from lookbehind.lab.progress import Watch
    from lookbehind.lab.study import Study

Scale = Annotated[str, arg(metavar="SCALE")]
Names = Annotated[tuple[str, ...], Positional, arg(metavar="ITEM...")]
Studies = Annotated[tuple[str, ...], Positional, arg(metavar="STUDY...")]
STORE = Path("lab")
PACE = 60.0  # seconds between lines of progress in a log, at most
WHAT = "what it shows"


def list_items(studies: Studies = ()) -> None:
    """List the tables and figures, with what each costs at each scale.

    Examples: `lookbehind list`; `lookbehind list league`; `lookbehind list my_study.py`.

    Args:
        studies: files of studies, or names under which packages offer some; the paper's if none is named.

    """
    named, others = loaded(studies)
    if others:
        raise UserError(f"{others[0]!r} is no study; name a file, as in: lookbehind list my_study.py")
    for study in named.values() or [paper()]:
        columns = [f"{scale}: runs, time" for scale in ("smoke", "paper") if scale in study.scales]
        print_fitting(_console(), _listed(study), [*columns, WHAT])


def _listed(study: Study) -> Table:
    from rich import box
    from rich.table import Table

    from lookbehind.lab.costs import ALL, known
    from lookbehind.lab.estimate import duration

    table = Table(title=study.title, box=box.SIMPLE_HEAD)
    table.add_column("item", no_wrap=True)
    table.add_column(WHAT, min_width=20)
    for scale in study.scales:
        table.add_column(f"{scale}: runs, time", justify="right", no_wrap=True)

    costs = known(study)

    def row(name: str, title: str) -> None:
        found = [costs.get((name, scale)) for scale in study.scales]
        table.add_row(
            name, title, *("" if cost is None else f"{cost.runs:,}, {duration(cost.hours)}" for cost in found)
        )

    for name, item in study.items.items():
        row(name, item.title)
    if len(study.items) > 1:
        table.add_section()
        row(ALL, "runs that items share are trained once")
    devices = {study.device(scale).name: scale for scale in study.scales}
    table.caption = "; ".join(f"{scale}: {name}" for name, scale in devices.items())
    return table


def list_models() -> None:
    """List the models and the data sets that there are."""
    from lookbehind._root import default_root

    console = _console()
    print_fitting(console, _stored("models", "models, for 3 channels and 10 classes"))
    print_fitting(console, _stored("datasets", f"data sets, under {default_root()}"), ["files"])


def _stored(name: str, title: str) -> Table:
    """Return a table that is stored, since the registry behind it takes a second to import; a test compares them."""
    from rich import box
    from rich.table import Table

    with Path(__file__).with_name(f"{name}.csv").open(newline="", encoding="utf-8") as file:
        heads, *rows = csv.reader(file)
    table = Table(title=title, box=box.SIMPLE_HEAD)
    for head in heads:
        table.add_column(head, no_wrap=head in ("name", "sizes"), overflow="fold" if head == "files" else "ellipsis")
    for row in rows:
        table.add_row(*row)
    return table


def show(items: Names, scale: Scale = "cpu", store: Path = STORE) -> None:
    """Show what items need: runs, how many are done, and the cost of the rest.

    Example: `lookbehind show table1 figure3 --scale cpu`.

    Args:
        items: names as `lookbehind list` gives them, or all; a study.py of your own, or items of one named after it.
        scale: smoke for seconds, cpu for minutes on two cores, paper for the paper's own settings.
        store: folder with finished runs, or an archive of them.

    """
    from rich import box
    from rich.table import Table

    from lookbehind.lab.estimate import duration, estimate
    from lookbehind.lab.lookup import remembered
    from lookbehind.lab.progress import Waiting
    from lookbehind.lab.report import tasks_now

    console = _console()
    table = Table(title=f"scale {scale}", box=box.SIMPLE_HEAD)
    for head in ("item", "runs", "done", "failed", "gradient evaluations", "time", "left"):
        table.add_column(head, justify="left" if head == "item" else "right", no_wrap=True)
    with writing("--store"), Waiting(console, "reading results") as waiting:
        kept = _store(store, console)
        asked = chosen("show", items, scale)
        listed, results = asked.parts, remembered(kept)
        if len(listed) > 1:
            listed["together"] = tuple(part for parts in listed.values() for part in parts)
        waiting.expect(len(listed))
        for name, parts in listed.items():
            cost = estimate(parts, asked.device, results)
            failed = sum(results.failure(run) is not None for run, _ in tasks_now(parts, results))
            table.add_row(
                name,
                f"{cost.runs:,}",
                f"{cost.done:,}",
                f"{failed:,}" if failed else "",
                f"{cost.gradients:,}",
                duration(cost.hours),
                duration(cost.hours_left),
            )
            waiting.advance()
    table.caption = f"on {asked.device.name}; at most, as far as selections decide what is needed"
    print_fitting(console, table, ["failed", "gradient evaluations", "time", "runs"])
    if not kept.root.exists():
        say(console, f"There is no store at {kept.root}; --store names another.")


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

    Examples: `lookbehind run table1 --scale smoke`; `lookbehind run my_study.py --device cuda:0 cuda:1`.

    Finished runs are never done again, unfinished ones go on from their last checkpoint, and items share runs. Several
    commands can work on one store at once.

    Args:
        items: names as `lookbehind list` gives them, or all; a study.py of your own, or items of one named after it.
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
    with _filling(engine, _store(store, console, to_train=True), console, processes, device, slurm) as (kept, fill):
        _run(chosen("run", items, scale), kept, fill, console, tensorboard)


def _run(asked: Chosen, kept: Store, fill: Callable[..., dict[Any, str]], console: Console, tensorboard: bool) -> None:
    from lookbehind.lab.edited import edited, misdeclared
    from lookbehind.lab.report import tasks_now

    parts = [part for of_item in asked.parts.values() for part in of_item]
    if asked.studies:  # the paper declares nothing that can be edited
        for sentence in edited([run for run, _ in tasks_now(parts, kept)], kept):
            say(console, sentence)
    failed: dict[Any, str] = {}
    try:
        with writing("--store"):
            # What is best decides what else is needed, such as controls at the chosen α and k.
            while wanted := [t for t in tasks_now(parts, kept) if t[0] not in failed and not kept.complete(*t)]:
                with _watch(console, wanted) as progress:
                    failed |= fill(wanted, kept, on_event=progress.hear, tensorboard=tensorboard, prepare=asked.prepare)
    except ValueError as error:  # data that are not there
        raise UserError(str(error)) from error
    if asked.studies:
        for sentence in misdeclared([run for run, _ in tasks_now(parts, kept)], kept):
            say(console, sentence)
    for one_run, reason in failed.items():
        say(console, f"failed: {one_run.workload.title}, {one_run.method.title}, seed {one_run.seed}: {reason}")
    if failed:
        raise UserError(
            f"{len(failed)} runs failed; what went wrong is in their folders, and the same command tries again"
        )
    command = shlex.join(["lookbehind", "report", *asked.words, "--scale", asked.scale, "--store", str(kept.root)])
    say(console, f"All runs of {', '.join(asked.items)} at scale {asked.scale} are in {kept.root}. See: {command}")


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

        yield store, partial(slurm.fill, cluster=cluster, say=lambda sentence: say(console, sentence))
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

    Examples: `lookbehind report table1 --scale smoke`; `lookbehind report league --store results.xz`.

    Nothing is trained; what is missing is shown as missing. The pages of each scale have a folder of their own, and
    its index names those of earlier reports too.

    Args:
        items: names as `lookbehind list` gives them, or all; a study.py of your own, or items of one named after it.
        scale: smoke for seconds, cpu for minutes on two cores, paper for the paper's own settings.
        store: folder with finished runs, or an archive of them.
        output: folder for the pages.

    """
    from lookbehind.lab.lookup import remembered
    from lookbehind.lab.page import write
    from lookbehind.lab.progress import Waiting

    console = _console()
    with Waiting(console, "writing pages") as waiting:
        kept = _store(store, console)
        asked = chosen("report", items, scale)
        results = remembered(kept)
        bare = _without_runs(asked, kept, results)
        folder = output / asked.folder
        writable(folder, "--output")
        waiting.expect(len(asked.items))
        with writing("--output"):
            pages = asked.items.values()
            paths = write(pages, results, folder, scale, device=asked.device, on_page=waiting.advance)
    say(console, f"Written: {paths[-1]} and {len(paths) - 1} more files in {folder}")
    if bare:
        command = shlex.join(["lookbehind", "run", *asked.words, "--scale", scale, "--store", str(store)])
        say(console, f"No run of {', '.join(bare)} is finished, so the page has no numbers; {command} trains them.")


def _without_runs(asked: Chosen, kept: Store, results: Results) -> list[str]:
    """Return the items of which no run is finished.

    Raises:
        UserError: if that is so of all: pages without a number may replace others. It names a scale that has some.

    """
    from lookbehind.lab.report import tasks

    def done(item: Item, scale: str) -> int:
        return sum(results.result(run) is not None for run, _ in tasks(item.at(scale).parts))

    if not kept.root.exists():
        raise UserError(f"there is no store at {kept.root}; --store names another")
    bare = [name for name, item in asked.items.items() if not done(item, asked.scale)]
    if len(bare) < len(asked.items):
        return bare
    items = asked.items.values()
    others = dict.fromkeys(scale for item in items for scale in item.scales if scale != asked.scale)
    counted = {scale: sum(done(item, scale) for item in items if scale in item.scales) for scale in others}
    advice = "; ".join(f"--scale {scale} has {runs:,}" for scale, runs in counted.items() if runs)
    raise UserError(
        f"no run of {', '.join(asked.items)} at scale {asked.scale} is finished in {kept.root}"
        + (f"; {advice}" if advice else f"; lookbehind run {shlex.join(asked.words)} --scale {asked.scale} trains them")
    )


def archive(store: Positional[Path], output: Positional[Path]) -> None:
    """Pack the results of a store into one file, without weights: `lookbehind report --store results.xz` reads it.

    Example: `lookbehind archive lab results.xz`.

    Args:
        store: folder with finished runs.
        output: the file to write; its name ends in .xz.

    """
    from lookbehind.lab.archive import SUFFIX, ArchiveError, pack

    console = _console()
    if output.suffix != SUFFIX:
        raise UserError(f"the file is {output}; a name that ends in {SUFFIX} is needed, such as results{SUFFIX}")
    kept = _store(store, console)
    try:
        with writing("file"):
            runs = pack(kept, output)
    except ArchiveError as error:
        raise UserError(str(error)) from error
    say(console, f"Written: {runs:,} runs in {output}, {output.stat().st_size / 1e6:.1f} MB")


COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_items,
    "models": list_models,
    "show": show,
    "run": run,
    "report": report,
    "archive": archive,
}


def _store(path: Path, console: Console, *, to_train: bool = False) -> Store:
    from lookbehind.lab.archive import SUFFIX, ArchiveError, opened

    if path.suffix == SUFFIX and to_train:
        raise UserError(f"--store is {path}; runs are trained into a folder, and an archive is only read")
    if path.suffix != SUFFIX and path.exists() and not path.is_dir():
        raise UserError(f"--store is {path}, which is not a folder; name a folder, or an archive that ends in {SUFFIX}")
    try:
        return opened(path, say=lambda sentence: say(console, sentence))
    except ArchiveError as error:
        raise UserError(str(error)) from error
    except FileNotFoundError as error:
        raise UserError(f"--store is {path}, and there is no such file") from error
    except RuntimeError as error:  # "~" without a home
        raise UserError(f"--store is {path}, whose home folder is unknown; name a folder without ~") from error


def _console() -> Console:
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=150)


def _watch(console: Console, wanted: Sequence[tuple[Any, Any]]) -> Watch:
    from lookbehind.lab.estimate import duration, gradients
    from lookbehind.lab.progress import Watch

    total = len(wanted)
    if not console.is_terminal:
        say(console, f"{total} runs to do on {platform.processor() or platform.machine()}")

    begun = said = time.monotonic()

    def heard(event: Any, ended: int) -> None:
        nonlocal said
        # A log wants to know, but not of each run of hundreds.
        counts = event.kind in ("done", "failed") and (ended == total or ended % max(1, total // 20) == 0)
        if counts or time.monotonic() - said >= PACE:
            said = time.monotonic()
            passed = duration((said - begun) / 3600)
            say(console, f"{ended} of {total} runs, {watch.share:.0%} of the gradients, after {passed}")

    watch = Watch(console, {run: gradients(run) for run, _ in wanted}, say=heard)
    return watch
