"""Engines: what fills a store. ``local`` on one machine, ``slurm`` on a cluster, ``torchrun`` a run on many devices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lookbehind.lab.engines.local import Event
    from lookbehind.lab.run import Measurement, Run
    from lookbehind.lab.store import Store


class Engine(Protocol):
    """Does what is wanted and not done yet, and returns what went wrong, for each run that failed.

    What is particular to an engine is bound beforehand: ``partial(local.fill, processes=2)``,
    ``partial(slurm.fill, cluster=Slurm(partition="gpu"))``. Locks of the store keep engines from training a run twice.
    """

    def __call__(
        self,
        wanted: Sequence[tuple[Run, Sequence[Measurement]]],
        store: Store,
        *,
        on_event: Callable[[Event], None] | None = None,
        save_every: float = ...,
        tensorboard: bool = ...,
        prepare: Callable[[], object] | None = None,
    ) -> dict[Run, str]:
        """Do it."""


def left(wanted: Iterable[tuple[Run, Sequence[Measurement]]], store: Store) -> dict[Run, tuple[Measurement, ...]]:
    """Return what is not done yet. A run that is wanted twice is trained once, and measured for both."""
    merged: dict[Run, dict[Measurement, None]] = {}
    for run, measurements in wanted:
        merged.setdefault(run, {}).update(dict.fromkeys(measurements))
    wishes = {run: tuple(measurements) for run, measurements in merged.items()}
    return {run: measurements for run, measurements in wishes.items() if not store.complete(run, measurements)}
