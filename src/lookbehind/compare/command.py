"""The command: plan, do what is missing, show and write."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from lookbehind.compare.figure import draw
from lookbehind.compare.report import LAST_FIRST, Rows, differences, table, to_csv, to_json, verdict
from lookbehind.compare.runs import METHODS, Result, Run, result_of
from lookbehind.lab import Store, fill
from lookbehind.lab.engines.local import Event
from lookbehind.lab.files import write
from lookbehind.lab.progress import Watch
from lookbehind.lab.terminal import print_fitting


class FailedError(Exception):
    """Some runs failed."""


def compare(
    runs: Sequence[Run],
    folder: Path,
    console: Console,
    device: str = "cpu",
    prepare: Callable[[], object] | None = None,
) -> None:
    """Do the runs that are not on disk yet, then show tables and write tables, numbers and a picture.

    Args:
        runs: the planned runs.
        folder: the store of finished runs, where the results are written too.
        console: where to show them.
        device: where to train.
        prepare: called first in each process that trains.

    Raises:
        OSError: if the folder cannot be written to.
        FailedError: if runs failed. The others are kept.

    """
    store = Store(folder, say=lambda sentence: _say(console, sentence))
    store.open()
    done = [run for run in runs if result_of(run, store) is not None]
    if done:
        _say(console, f"{len(done)} of {len(runs)} runs are in {folder} already; {len(runs) - len(done)} to do.")
    rows = {run.trained: run for run in runs}

    def say(event: Event, ended: int) -> None:
        if event.kind == "done":
            row = rows[event.run]
            _say(console, f"{ended}/{len(rows)} {METHODS[row.method].label}, {row.labels}, seed {row.seed}")

    spent = {trained: run.gradients for trained, run in rows.items()}
    with Watch(console, spent, done=[run.trained for run in done], say=say) as watch:
        wanted = [(run.trained, run.measurements) for run in runs]
        failed = fill(wanted, store, on_event=watch.hear, devices=(device,), save_every=30.0, prepare=prepare)
    if failed:
        raise FailedError(f"{len(failed)} runs failed, the first with {next(iter(failed.values()))}")
    _report([(run, result) for run in runs if (result := result_of(run, store)) is not None], folder, console)


def _report(finished: list[tuple[Run, Result]], folder: Path, console: Console) -> None:
    text = io.StringIO()
    plain = Console(width=170, file=text)
    for labels in dict.fromkeys(run.labels for run, _ in finished):
        rows = Rows(finished, labels)
        for output in (console, plain):
            print_fitting(output, table(rows), LAST_FIRST)
            if (compared := differences(rows)) is not None:
                print_fitting(output, compared, [str(column.header) for column in compared.columns[:1:-1]])
            _say(output, verdict(rows))
    for name, content in (
        ("compare.txt", text.getvalue()),
        ("compare.json", to_json(finished)),
        ("compare.csv", to_csv(finished)),
    ):
        write(folder / name, content.encode())
    names = ["compare.txt", "compare.json", "compare.csv", *(path.name for path in draw(finished, folder))]
    _say(console, f"Written to {folder}: {', '.join(names)}")


def _say(console: Console, sentence: str) -> None:
    """Print a sentence as it is: a folder's name may hold what rich takes for markup, and is not to be wrapped."""
    console.print(sentence, markup=False, highlight=False, soft_wrap=True)
