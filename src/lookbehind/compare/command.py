"""The command: plan, do what is missing, show and write."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lookbehind.compare.figure import draw
from lookbehind.compare.report import Rows, differences, table, to_csv, to_json, verdict
from lookbehind.compare.runs import METHODS, Labels, Result, Run, gradients_of
from lookbehind.compare.store import Store, write
from lookbehind.compare.work import work


def compare(runs: Sequence[Run], folder: Path, console: Console) -> None:
    """Do the runs that are not on disk yet, then show tables and write tables, numbers and a picture.

    Args:
        runs: the planned runs.
        folder: where finished runs are kept (in ``runs/``) and the results are written.
        console: where to show them.

    Raises:
        OSError: if the folder cannot be written to.

    """
    store = Store(folder / "runs")
    store.open()
    done = _finished(runs, store, console)
    missing = [run for run in runs if run not in done]
    if done:
        _say(console, f"{len(done)} of {len(runs)} runs are in {folder} already; {len(missing)} to do.")
    with _progress(console) as progress:
        # Bars move by gradients, since a run of Lookbehind takes three times as long as one of SGD.
        bar = progress.add_task("training", total=sum(map(gradients_of, runs)), done=len(done), runs=len(runs))
        progress.advance(bar, sum(map(gradients_of, done)))

        def on_done(run: Run, result: Result) -> None:
            done[run] = result
            progress.update(bar, advance=gradients_of(run), done=len(done))
            if not console.is_terminal:
                console.print(f"{len(done)}/{len(runs)} {METHODS[run.method].label}, {run.labels}, seed {run.seed}")

        work(missing, store, on_done)
    _report([(run, done[run]) for run in runs], folder, console)


def _finished(runs: Sequence[Run], store: Store, console: Console) -> dict[Run, Result]:
    found = {}
    for run in runs:
        try:
            result = store.load(run)
        except ValueError as error:
            _say(console, f"{store.path(run)} is not used: {error}. The run is done again.")
            continue
        if result is not None:
            found[run] = result
    return found


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[done]}/{task.fields[runs]} runs"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _report(finished: list[tuple[Run, Result]], folder: Path, console: Console) -> None:
    text = io.StringIO()
    plain = Console(width=170, file=text)
    both: tuple[Labels, ...] = ("noisy", "clean")
    for labels in both:
        rows = Rows(finished, labels)
        if not rows.by_method:
            continue
        for output in (console, plain):
            for part in (table(rows), differences(rows), verdict(rows)):
                if part is not None:
                    output.print(part)
    write(folder / "compare.txt", text.getvalue())
    write(folder / "compare.json", to_json(finished))
    write(folder / "compare.csv", to_csv(finished))
    names = ["compare.txt", "compare.json", "compare.csv", *(path.name for path in draw(finished, folder))]
    _say(console, f"Written to {folder}: {', '.join(names)}")


def _say(console: Console, sentence: str) -> None:
    """Print a sentence as it is: a folder's name may hold what rich takes for markup, and is not to be wrapped."""
    console.print(sentence, markup=False, highlight=False, soft_wrap=True)
