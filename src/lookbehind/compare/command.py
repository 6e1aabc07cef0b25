"""The command: do what is missing, show and write."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from lookbehind.compare.figure import draw
from lookbehind.compare.items import METHODS, Comparison
from lookbehind.compare.report import LAST_FIRST, Rows, differences, table, to_csv, to_json, verdict
from lookbehind.lab import Event, Store, fill
from lookbehind.lab.estimate import gradients
from lookbehind.lab.files import write
from lookbehind.lab.progress import Watch
from lookbehind.lab.report import tasks
from lookbehind.lab.terminal import print_fitting, say


class FailedError(Exception):
    """Some runs failed."""


def compare(
    comparisons: Sequence[Comparison],
    folder: Path,
    console: Console,
    device: str = "cpu",
    prepare: Callable[[], object] | None = None,
) -> None:
    """Do the runs that are not on disk yet, then show tables and write tables, numbers and a picture.

    Args:
        comparisons: what is compared, of the same seeds.
        folder: the store of finished runs, where the results are written too.
        console: where to show them.
        device: where to train.
        prepare: called first in each process that trains.

    Raises:
        OSError: if the folder cannot be written to.
        FailedError: if runs failed. The others are kept.

    """
    store = Store(folder, say=lambda sentence: say(console, sentence))
    store.open()
    wanted = tasks(each.table for each in comparisons)
    names = {
        run: f"{METHODS[method].label}, {each.labels}, seed {run.seed}"
        for each in comparisons
        for method, candidate in each.candidates.items()
        for run in candidate.runs
    }
    done = [run for run, measurements in wanted if store.complete(run, measurements)]
    if done:
        say(console, f"{len(done)} of {len(wanted)} runs are in {folder} already; {len(wanted) - len(done)} to do.")

    def heard(event: Event, ended: int) -> None:
        if event.kind == "done":
            say(console, f"{ended}/{len(wanted)} {names[event.run]}")

    with Watch(console, {run: gradients(run) for run, _ in wanted}, done=done, say=heard) as watch:
        failed = fill(wanted, store, on_event=watch.hear, devices=(device,), save_every=30.0, prepare=prepare)
    if failed:
        raise FailedError(f"{len(failed)} runs failed, the first with {next(iter(failed.values()))}")
    _report([Rows(each, store) for each in comparisons], folder, console)


def _report(compared: list[Rows], folder: Path, console: Console) -> None:
    text = io.StringIO()
    plain = Console(width=170, file=text)
    for rows in compared:
        for output in (console, plain):
            print_fitting(output, table(rows), LAST_FIRST)
            if (against := differences(rows)) is not None:
                print_fitting(output, against, [str(column.header) for column in against.columns[:1:-1]])
            say(output, verdict(rows))
    contents = {"compare.txt": text.getvalue(), "compare.json": to_json(compared), "compare.csv": to_csv(compared)}
    for name, content in contents.items():
        write(folder / name, content.encode())
    names = [*contents, *(path.name for path in draw(compared, folder))]
    say(console, f"Written to {folder}: {', '.join(names)}")
