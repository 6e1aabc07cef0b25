"""Progress of many runs while they are trained, and of commands that read many results."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from lookbehind.lab.engines.local import Event
    from lookbehind.lab.run import Run

PATIENCE = 2.0  # seconds until a bar appears


class Waiting:
    """A bar on a terminal for what takes over two seconds. It is gone at the end.

    Args:
        console: where it is shown.
        what: the word beside it.

    """

    def __init__(self, console: Console, what: str) -> None:
        columns = (TextColumn(what), BarColumn(), TimeElapsedColumn())
        self.progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.bar = self.progress.add_task("", total=None)
        self.timer = threading.Timer(PATIENCE, self.progress.start)
        self.timer.daemon = True

    def __enter__(self) -> Waiting:
        self.timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.timer.cancel()
        self.timer.join()  # it may be starting the bar
        if self.progress.live.is_started:
            self.progress.stop()

    def expect(self, steps: int) -> None:
        """Say how many steps there are."""
        self.progress.update(self.bar, total=steps)

    def advance(self) -> None:
        """Say that a step is done."""
        self.progress.advance(self.bar)


class Watch:
    """A bar on a terminal, moved by gradients: a run of Lookbehind takes three times as long as one of SGD.

    Args:
        console: where it is shown.
        gradients: the gradient evaluations of each run.
        done: runs of them that need nothing more.
        say: called where there is no terminal, with an event and how many runs have ended.

    """

    def __init__(
        self,
        console: Console,
        gradients: Mapping[Run, float],
        *,
        done: Iterable[Run] = (),
        say: Callable[[Event, int], None],
    ) -> None:
        self.gradients, self.say = gradients, say
        self.ended = set(done)
        self.seen: dict[Run, float] = {run: gradients[run] for run in self.ended}
        columns = (
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.fields[ended]}/{task.fields[runs]} runs"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self.bar = self.progress.add_task("", total=sum(gradients.values()), ended=0, runs=len(gradients))
        self._show()

    def __enter__(self) -> Watch:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def hear(self, event: Event) -> None:
        """Take account of what happened to a run."""
        self.seen[event.run] = event.gradients if event.kind == "epoch" else self.gradients.get(event.run, 0)
        if event.kind in ("done", "failed"):
            self.ended.add(event.run)
        if not self.progress.console.is_terminal:
            self.say(event, len(self.ended))
        self._show()

    @property
    def share(self) -> float:
        """Return how much of the gradients is done, from 0 to 1."""
        return sum(self.seen.values()) / max(1.0, sum(self.gradients.values()))

    def _show(self) -> None:
        self.progress.update(self.bar, completed=sum(self.seen.values()), ended=len(self.ended))
