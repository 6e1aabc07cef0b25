"""The local engine: the runs that are not done yet, on the processes of one machine."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from typing import Literal

from lookbehind.lab.engines import left
from lookbehind.lab.engines.worker import Job, Worker
from lookbehind.lab.estimate import TWO_CORES, seconds
from lookbehind.lab.execution import SAVE_EVERY, TERMINATED, check_tensorboard
from lookbehind.lab.run import Measurement, Run
from lookbehind.lab.store import BusyError, Store
from lookbehind.lab.workloads import fetch

PATIENCE = 1.0  # seconds until a run that another command is at is tried again


@dataclass(frozen=True)
class Event:
    """Event of a run: it finished an ``epoch``, is ``done``, ``failed``, or another command is at it."""

    kind: Literal["epoch", "done", "failed", "elsewhere"]
    run: Run
    gradients: float = 0  # of an epoch: evaluated so far by this run
    text: str = ""  # of a failure


def fill(
    wanted: Sequence[tuple[Run, Sequence[Measurement]]],
    store: Store,
    processes: int | None = None,
    on_event: Callable[[Event], None] | None = None,
    *,
    devices: Sequence[str] = ("cpu",),
    save_every: float = SAVE_EVERY,
    tensorboard: bool = False,
    prepare: Callable[[], object] | None = None,
) -> dict[Run, str]:
    """Do what is wanted and not done yet, the largest runs first.

    A run that fails is recorded as failed, the others go on, and the next call tries it again. A run that another
    command is at is waited for. Ctrl-C ends at once, and the next call goes on from the last checkpoints; SIGTERM lets
    each process save at the end of its epoch. When this process is killed, its workers end too.

    Args:
        wanted: runs, each with what to measure of it.
        store: where they are kept.
        processes: how many at a time. Default: one for each device, or on the CPU one for each core.
        on_event: called in this process with each ``Event``.
        devices: where to train; processes take them in turn. Default the CPU, with one thread each.
        save_every: seconds between checkpoints of a run, at least. Default 10.
        tensorboard: write curves for TensorBoard too. Default False.
        prepare: called first in each process, to register data sets and models of your own; it must be possible to
            pickle it, as ``functools.partial(importlib.import_module, "my_paper")``. Default: nothing.

    Returns:
        What went wrong, for each run that failed.

    Raises:
        ValueError: if there is no such data set or model, or its data cannot be had.
        UnwritableError: an ``OSError``, if the store cannot be written to.
        KeyboardInterrupt: on Ctrl-C.
        SystemExit: on SIGTERM.

    """
    todo = [Job(run, measurements) for run, measurements in left(wanted, store).items()]
    if tensorboard:
        check_tensorboard()
    if not todo:
        return {}
    store.open()
    for workload in dict.fromkeys(job.run.workload for job in todo):
        fetch(workload)  # before many processes want to download it
    todo.sort(key=lambda job: seconds(job.run, job.measurements, TWO_CORES), reverse=True)
    processes = processes or (_cores() if set(devices) == {"cpu"} else len(devices))
    workers = [
        Worker(store.root, devices[i % len(devices)], save_every, tensorboard, prepare)
        for i in range(min(processes, len(todo)))
    ]
    with _sigterm_raises():
        try:
            return _Filling(todo, workers, store, on_event or (lambda event: None)).to_the_end()
        except BaseException as error:
            for worker in workers:
                worker.interrupt(save=isinstance(error, SystemExit))
            raise
        finally:
            for worker in workers:
                worker.end()


class _Filling:
    """Giving jobs to workers, and hearing from them."""

    def __init__(
        self, todo: Sequence[Job], workers: Sequence[Worker], store: Store, on_event: Callable[[Event], None]
    ) -> None:
        self.todo, self.workers, self.store, self.on_event = deque(todo), workers, store, on_event
        self.elsewhere: dict[Job, float] = {}  # and when to try again
        self.said: set[Job] = set()
        self.failures: dict[Run, str] = {}

    def to_the_end(self) -> dict[Run, str]:
        while self.todo or self.elsewhere or any(worker.job for worker in self.workers):
            self._try_again()
            for worker in self.workers:
                if worker.job is None and self.todo:
                    worker.give(self.todo.popleft())
            at_work = {worker.pipe: worker for worker in self.workers if worker.job}
            ready = connection.wait(list(at_work), PATIENCE if self.elsewhere else None) if at_work else []
            for pipe in ready:
                self._hear(at_work[pipe])
            if not at_work:
                time.sleep(PATIENCE / 4)
        return self.failures

    def _try_again(self) -> None:
        for job, due in list(self.elsewhere.items()):
            if due <= time.monotonic():
                del self.elsewhere[job]
                self.todo.append(job)

    def _hear(self, worker: Worker) -> None:
        job = worker.job
        assert job is not None
        message = worker.hear()
        match message.kind:
            case "note":
                self.store.say(message.text)
            case "unwritable":
                assert message.error is not None
                raise message.error
            case "epoch":
                self.on_event(Event("epoch", job.run, gradients=message.gradients))
            case "done":
                self.on_event(Event("done", job.run))
            case "elsewhere":
                self.elsewhere[job] = time.monotonic() + PATIENCE
                if job not in self.said:
                    self.said.add(job)
                    self.on_event(Event("elsewhere", job.run))
            case "lost":
                self._record(job.run, message.text)
                self._failed(job.run, message.text)
            case "failed":
                self._failed(job.run, message.text)

    def _record(self, run: Run, text: str) -> None:
        """Record the failure of a run whose process could not do so any more."""
        try:
            with self.store.lock(run):
                self.store.save_failure(run, text, {})
        except BusyError:  # another command has taken it up meanwhile
            pass

    def _failed(self, run: Run, text: str) -> None:
        self.failures[run] = text
        self.on_event(Event("failed", run, text=text))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Let SIGTERM end this process as Ctrl-C does, so that workers are told. A second one changes nothing."""

    def leave(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise SystemExit(TERMINATED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
