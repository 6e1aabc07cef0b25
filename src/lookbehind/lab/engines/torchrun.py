"""The engine for one run on several devices: the processes that torchrun has started train each run together."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist

from lookbehind.lab.engines import left
from lookbehind.lab.engines.local import Event
from lookbehind.lab.execution import SAVE_EVERY, execute
from lookbehind.lab.result import Record
from lookbehind.lab.run import Measurement, Run, Workload
from lookbehind.lab.store import BusyError, Store
from lookbehind.lab.workloads import fetch

PATIENCE = 1.0  # seconds until a run that another command is at is tried again


def fill(
    wanted: Sequence[tuple[Run, Sequence[Measurement]]],
    store: Together,
    on_event: Callable[[Event], None] | None = None,
    *,
    device: str = "cpu",
    save_every: float = SAVE_EVERY,
    tensorboard: bool = False,
    prepare: Callable[[], object] | None = None,
) -> dict[Run, str]:
    """Do what is wanted and not done yet, one run after another, each divided over all processes.

    Every minibatch is divided evenly, and gradients are averaged. So a run is that of one device, up to rounding. Batch
    norm on the CPU is an exception: its statistics are those of a process's share, on CUDA those of the minibatch. A
    last minibatch that cannot be divided is taken whole by every process. A run that fails ends the command; the next
    call tries it again.

    Args:
        wanted: runs, each with what to measure of it; the same in every process.
        store: ``together(Store(...))``, inside which processes share what they know.
        on_event: called in the first process with each ``Event``.
        device: "cpu", or "cuda" for one device a process. Default "cpu".
        save_every: seconds between checkpoints of a run, at least. Default 10.
        tensorboard: write curves for TensorBoard too. Default False.
        prepare: called first in each process. Default: nothing.

    Returns:
        An empty dict: a failure is raised.

    Raises:
        ValueError: if the data cannot be had, or a run cannot be divided over the processes.
        UnwritableError: an ``OSError``, if the store cannot be written to.

    """
    if prepare is not None:
        prepare()
    todo = list(left(wanted, store).items())
    if not todo:
        return {}
    for run, _ in todo:
        if not isinstance(run.workload, Workload):
            raise ValueError(f"{run.workload.title} cannot be divided over processes; image classification can")
    store.open()
    if store.first:
        for workload in dict.fromkeys(run.workload for run, _ in todo):
            fetch(workload)
    dist.barrier()  # the others load what the first has downloaded
    tell = on_event if on_event is not None and store.first else lambda event: None
    place = f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" else device
    while todo:
        run, measurements = todo.pop(0)

        def epoch(record: Record, run: Run = run) -> None:
            tell(Event("epoch", run, gradients=record.gradients))

        try:
            execute(
                run,
                store,
                measurements,
                device=place,
                on_epoch=epoch,
                save_every=save_every,
                tensorboard=tensorboard and store.first,
            )
        except BusyError:
            tell(Event("elsewhere", run))
            todo.append((run, measurements))
            time.sleep(PATIENCE)
        else:
            tell(Event("done", run))
    return {}


@contextmanager
def together(store: Store, device: str = "cpu") -> Iterator[Together]:
    """Let the processes that torchrun has started know each other, and share a store.

    Raises:
        ValueError: if torchrun has not started this process, or there is no such device for it.

    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        raise ValueError(
            "engine torchrun trains in the processes that torchrun starts: "
            "torchrun --nproc-per-node 2 -m lookbehind.cli run ... --engine torchrun"
        )
    if device == "cuda":
        here = int(os.environ["LOCAL_RANK"])
        if here >= torch.cuda.device_count():
            raise ValueError(f"process {here} has no CUDA device; {torch.cuda.device_count()} are here")
        torch.cuda.set_device(here)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    try:
        yield Together(store)
        # Gloo's thread may hold a tensor for a moment after it has sent it, and a Python that ends meanwhile aborts.
        # A barrier waits for the works before it, and holds no tensor itself.
        dist.barrier()
    finally:
        dist.destroy_process_group()


# Methods of a store that the first process executes for all.
TOLD = (
    *("open", "result", "measured", "failure", "complete", "weights", "checkpoint"),
    *("begin", "log", "save_checkpoint", "finish", "save_measurement", "forget_failure"),
)


class Together(Store):
    """A store that the first process reads and writes; the others are told what it found, and write nothing."""

    def __init__(self, store: Store) -> None:
        self.first = dist.get_rank() == 0
        super().__init__(store.root, say=store.say if self.first else lambda sentence: None)
        self.inner = store
        vars(self).update({name: partial(self._told, getattr(store, name)) for name in TOLD})

    def _told(self, ask: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """Return what the first process gets, or raise what it raises."""
        answer: list[Any] = [None, None]
        if self.first:
            try:
                answer[0] = ask(*given, **named)
            except Exception as error:
                answer[1] = error
        dist.broadcast_object_list(answer, src=0, device=torch.device("cpu"))
        if answer[1] is not None:
            raise answer[1]
        return answer[0]

    def agreed(self, *decisions: bool) -> tuple[bool, ...]:
        """Return which decisions any process has taken."""
        taken = torch.tensor(decisions, dtype=torch.int32)
        dist.all_reduce(taken, dist.ReduceOp.MAX)
        return tuple(map(bool, taken.tolist()))

    @contextmanager
    def lock(self, run: Run) -> Iterator[None]:
        """Keep a run to these processes."""
        held = self.inner.lock(run)
        self._told(held.__enter__)
        try:
            yield
        finally:
            if self.first:
                held.__exit__(None, None, None)

    def save_failure(self, run: Run, error: str, about: Mapping[str, Any]) -> None:
        """Keep what went wrong in the first process. Others may be waiting elsewhere, and are told nothing."""
        if self.first:
            self.inner.save_failure(run, error, about)
