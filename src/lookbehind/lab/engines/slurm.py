"""The engine for clusters: runs as Slurm job arrays, watched through the store and the queue."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from lookbehind.lab.engines import left
from lookbehind.lab.engines.local import Event
from lookbehind.lab.engines.slurm_job import Chunk, Wanted
from lookbehind.lab.engines.slurm_options import Slurm
from lookbehind.lab.engines.slurm_queue import Queue, check_slurm
from lookbehind.lab.estimate import A100, TWO_CORES, seconds
from lookbehind.lab.execution import SAVE_EVERY, check_tensorboard
from lookbehind.lab.run import Measurement, Run
from lookbehind.lab.store import LOG, BusyError, Store
from lookbehind.lab.workloads import fetch

LOOK_EVERY = 10.0  # seconds
LARGEST_ARRAY = 1000  # Slurm's default MaxArraySize, less one


def fill(
    wanted: Sequence[tuple[Run, Sequence[Measurement]]],
    store: Store,
    cluster: Slurm,
    on_event: Callable[[Event], None] | None = None,
    *,
    save_every: float = SAVE_EVERY,
    tensorboard: bool = False,
    prepare: Callable[[], object] | None = None,
    look_every: float = LOOK_EVERY,
    say: Callable[[str], None] = print,
) -> dict[Run, str]:
    """Do what is wanted and not done yet in jobs of a cluster, and wait for them.

    The store and this Python must be where the nodes see them under the same names. Runs that jobs of an earlier call
    are at are waited for, not submitted again. A job that is preempted or near its time limit saves at the end of its
    epoch and is requeued; if its node dies, Slurm requeues it; in both cases it goes on from the last checkpoints.
    Ctrl-C leaves the jobs running. A run that fails, or whose job ends without a result, is recorded as failed.

    Args:
        wanted: runs, each with what to measure of it.
        store: where they are kept, on a file system that nodes share and whose locks (``flock``) hold between them.
        cluster: what to ask of Slurm.
        on_event: called with each ``Event``: of an epoch now and then only, of a failure when its job has ended.
        save_every: seconds between checkpoints of a run, at least. Default 10.
        tensorboard: write curves for TensorBoard too. Default False.
        prepare: called first in each process that trains, as for the local engine. Default: nothing.
        look_every: seconds between looks at the queue and the store. Default 10.
        say: called with sentences about the jobs. Default ``print``.

    Returns:
        What went wrong, for each run that failed.

    Raises:
        ValueError: if there is no such data set or model, its data cannot be had, Slurm or submitit is not there, or
            Slurm refuses the jobs.
        UnwritableError: an ``OSError``, if the store cannot be written to.
        KeyboardInterrupt: on Ctrl-C.

    """
    todo = left(wanted, store)
    if tensorboard:
        check_tensorboard()
    if not todo:
        return {}
    check_slurm()
    store.open()
    for workload in dict.fromkeys(run.workload for run in todo):
        fetch(workload)  # nodes may not see the network

    def job(chunk: Wanted) -> Chunk:
        return Chunk(chunk, store.root.resolve(), cluster, save_every, tensorboard, prepare)

    filling = _Filling(todo, store, cluster, job, on_event or (lambda event: None), say)
    try:
        return filling.to_the_end(look_every)
    except KeyboardInterrupt:
        filling.leave()
        raise


def chunks(todo: Mapping[Run, tuple[Measurement, ...]], cluster: Slurm) -> list[Wanted]:
    """Divide runs into jobs, the largest runs first, so that each lasts a sensible time.

    Args:
        todo: runs, each with what to measure of it.
        cluster: how long a job should last, and how many runs it does at a time.

    Returns:
        The runs of each job; at most as many jobs as an array takes.

    """
    device = A100 if cluster.gpus else TWO_CORES
    costs = {run: seconds(run, measurements, device) for run, measurements in todo.items()}
    enough = 60.0 * cluster.chunk * cluster.at_a_time
    if len(todo) > LARGEST_ARRAY:
        enough = max(enough, sum(costs.values()) / (LARGEST_ARRAY - 1))
    divided: list[list[tuple[Run, tuple[Measurement, ...]]]] = []
    room = 0.0
    for run in sorted(todo, key=costs.__getitem__, reverse=True):
        if room <= 0:
            divided.append([])
            room = enough
        divided[-1].append((run, todo[run]))
        room -= costs[run]
    return [tuple(chunk) for chunk in divided]


class _Filling:
    """Submitting jobs, and watching the store and the queue until all is decided."""

    def __init__(
        self,
        todo: dict[Run, tuple[Measurement, ...]],
        store: Store,
        cluster: Slurm,
        job: Callable[[Wanted], Chunk],
        on_event: Callable[[Event], None],
        say: Callable[[str], None],
    ) -> None:
        self.todo, self.store, self.cluster = todo, store, cluster
        self.job, self.on_event, self.say = job, on_event, say
        self.queue = Queue(store, say)
        self.jobs: dict[Run, str] = {}  # where a run was seen, or submitted to
        self.submitted: set[Run] = set()
        self.missed: set[Run] = set()  # at the last look, in no job
        self.gradients: dict[Run, int] = {}
        self.failures: dict[Run, str] = {}

    def to_the_end(self, look_every: float) -> dict[Run, str]:
        self._submit(self._look())
        if others := self.todo.keys() - self.submitted:
            self.say(f"{len(others)} runs are in jobs of an earlier call, which are waited for.")
        while self.todo:
            time.sleep(look_every)
            self._submit(self._look())
        return self.failures

    def leave(self) -> None:
        """Say what becomes of the jobs."""
        ours = {run.address for run in self.todo}
        ids = " ".join(sorted({job.split("_")[0] for address, job in self.queue.living().items() if address in ours}))
        if not ids:
            return
        if self.cluster.cancel:
            subprocess.run(["scancel", *ids.split()], check=False)
            self.say(f"Slurm jobs {ids} are cancelled. The same command goes on from the last checkpoints.")
        else:
            self.say(f"Slurm jobs {ids} go on. The same command attaches to them again; `scancel {ids}` ends them.")

    def _look(self) -> list[Run]:
        """Find out what has become of runs; return those that are in no job and have still to be submitted."""
        living = self.queue.living()  # first: of what is no longer there then, the store knows all by now
        fresh = []
        for run, measurements in list(self.todo.items()):
            self._progress(run)
            if self.store.complete(run, measurements):
                del self.todo[run]
                self.on_event(Event("done", run))
            elif run.address in living:
                self.jobs[run] = living[run.address]
                self.missed.discard(run)
            elif run not in self.jobs:
                fresh.append(run)
            elif run not in self.missed:  # a job on its way back to the queue may be nowhere for a moment
                self.missed.add(run)
            elif run in self.submitted or self.store.failure(run):
                self._failed(run)
            else:  # an earlier call's job was about something else, or was cancelled
                fresh.append(run)
        return fresh

    def _submit(self, fresh: Iterable[Run]) -> None:
        if not (fresh := list(fresh)):
            return
        with self.queue.held():  # another command may have submitted them meanwhile
            living = self.queue.living()
            todo = {run: self.todo[run] for run in fresh if run.address not in living}
            self.jobs.update({run: living[run.address] for run in fresh if run.address in living})
            if not todo:
                return
            for run in todo:
                self.store.forget_failure(run)
            divided = chunks(todo, self.cluster)
            ids = self.queue.submit([self.job(chunk) for chunk in divided], self.cluster)
        for job_id, chunk in zip(ids, divided, strict=True):
            self.jobs.update({run: job_id for run, _ in chunk})
        self.submitted.update(todo)
        self.missed -= todo.keys()
        self.say(f"{len(todo)} runs are in {len(ids)} Slurm jobs, {ids[0].split('_')[0]}; logs: {self.queue.folder}")

    def _progress(self, run: Run) -> None:
        """Tell of the last epoch in a run's log, where that is new."""
        try:
            lines = (self.store.folder(run) / LOG).read_bytes().splitlines()
            gradients = int(json.loads(lines[-1])["gradients"])
        except (OSError, ValueError, LookupError, TypeError):  # not begun, or half a line
            return
        if gradients != self.gradients.get(run):
            self.gradients[run] = gradients
            self.on_event(Event("epoch", run, gradients=gradients))

    def _failed(self, run: Run) -> None:
        text = self.store.failure(run)
        if text is None:
            job = self.jobs[run]
            text = f"its Slurm job {job} ended without a result{self.queue.state(job)}; see the store's folder slurm"
            with suppress(BusyError), self.store.lock(run):  # else another command has taken it up meanwhile
                self.store.save_failure(run, text, {})
        del self.todo[run]
        self.failures[run] = text
        self.on_event(Event("failed", run, text=text))


__all__ = ["Slurm", "chunks", "fill"]
