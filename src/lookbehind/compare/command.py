"""The command: plan, do what is missing, show and write."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lookbehind.compare.figure import draw
from lookbehind.compare.report import Rows, differences, table, to_csv, to_json, verdict
from lookbehind.compare.runs import METHODS, Labels, Result, Run, result_of
from lookbehind.lab import Store, fill
from lookbehind.lab.engines.local import Event
from lookbehind.lab.files import write


class FailedError(Exception):
    """Some runs failed."""


def compare(runs: Sequence[Run], folder: Path, console: Console, device: str = "cpu") -> None:
    """Do the runs that are not on disk yet, then show tables and write tables, numbers and a picture.

    Args:
        runs: the planned runs.
        folder: the store of finished runs, where the results are written too.
        console: where to show them.
        device: where to train.

    Raises:
        OSError: if the folder cannot be written to.
        FailedError: if runs failed. The others are kept.

    """
    store = Store(folder, say=lambda sentence: _say(console, sentence))
    store.open()
    done = [run for run in runs if result_of(run, store) is not None]
    if done:
        _say(console, f"{len(done)} of {len(runs)} runs are in {folder} already; {len(runs) - len(done)} to do.")
    with _progress(console) as progress:
        watch = _Watch(runs, done, progress, console)
        wanted = [(run.trained, run.measurements) for run in runs]
        failed = fill(wanted, store, on_event=watch.hear, devices=(device,), save_every=30.0)
    if failed:
        raise FailedError(f"{len(failed)} runs failed, the first with {next(iter(failed.values()))}")
    _report([(run, result) for run in runs if (result := result_of(run, store)) is not None], folder, console)


class _Watch:
    """Bars move by gradients, since a run of Lookbehind takes three times as long as one of SGD."""

    def __init__(self, runs: Sequence[Run], done: Sequence[Run], progress: Progress, console: Console) -> None:
        self.rows = {run.trained: run for run in runs}
        self.done = {run.trained for run in done}
        self.spent = {run: self.rows[run].gradients for run in self.done}
        self.progress, self.console = progress, console
        total = sum(run.gradients for run in runs)
        self.bar = progress.add_task("training", total=total, done=len(self.done), runs=len(runs))
        self._show()

    def hear(self, event: Event) -> None:
        """Take account of what happened to a run."""
        if event.kind == "epoch":
            self.spent[event.run] = event.gradients
        elif event.kind == "done":
            self.done.add(event.run)
            row = self.rows[event.run]
            self.spent[event.run] = row.gradients
            if not self.console.is_terminal:
                label = METHODS[row.method].label
                self.console.print(f"{len(self.done)}/{len(self.rows)} {label}, {row.labels}, seed {row.seed}")
        self._show()

    def _show(self) -> None:
        self.progress.update(self.bar, completed=sum(self.spent.values()), done=len(self.done))


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
