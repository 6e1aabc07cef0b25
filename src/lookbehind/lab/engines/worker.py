"""A process that executes one run after another."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Literal

import torch

from lookbehind.lab.execution import execute
from lookbehind.lab.files import UnwritableError
from lookbehind.lab.run import Measurement, Run
from lookbehind.lab.store import BusyError, Store

HELD = {signal.SIGINT, signal.SIGTERM}
START: Literal["spawn"] = "spawn"  # a fork would copy locks and threads


@dataclass(frozen=True)
class Job:
    """A run, and what to measure of it."""

    run: Run
    measurements: tuple[Measurement, ...]


@dataclass(frozen=True)
class Message:
    """Message of a worker about its job."""

    kind: Literal["epoch", "note", "done", "failed", "elsewhere", "lost", "unwritable"]
    gradients: float = 0
    text: str = ""
    error: UnwritableError | None = None


class Worker:
    """A worker as its parent sees it. The process starts with its first job, and anew if it was lost."""

    def __init__(
        self, root: Path, device: str, save_every: float, tensorboard: bool, prepare: Callable[[], object] | None
    ) -> None:
        self.settings = (root, device, save_every, tensorboard, prepare)
        self.job: Job | None = None
        self.process: SpawnProcess | None = None
        self.pipe: Any = None  # a Connection, whose name differs between systems

    def give(self, job: Job) -> None:
        """Let the worker do a job."""
        if self.process is None:
            self._start()
        self.job = job
        with suppress(OSError):  # the process is lost, and `hear` will find so
            self.pipe.send(job)

    def hear(self) -> Message:
        """Return what the worker says next. Without a job left, it can be given another."""
        try:
            message: Message = self.pipe.recv()
        except (EOFError, OSError):
            message = self._lost()
        if message.kind not in ("epoch", "note"):
            self.job = None
        return message

    def interrupt(self, save: bool) -> None:
        """End the process: after its epoch and a checkpoint, or at once."""
        if self.process is not None:
            if save:
                self.process.terminate()
            else:
                self.process.kill()

    def end(self) -> None:
        """Wait for the end of the process, which ends when it has no job and nobody to get one from."""
        if self.process is None:
            return
        self.pipe.close()
        try:
            self.process.join()
        except BaseException:  # whoever waits has lost patience
            self.process.kill()
            self.process.join()
            raise

    def _start(self) -> None:
        context = multiprocessing.get_context(START)
        self.pipe, theirs = context.Pipe()
        # Not a daemon: daemons may have no children, and image files are decoded by some.
        process = context.Process(target=_serve, args=(theirs, *self.settings))
        with _signals_held():
            process.start()
            self.process = process
        theirs.close()  # so that the pipe ends with the process

    def _lost(self) -> Message:
        assert self.process is not None
        self.pipe.close()
        self.process.join()
        code = self.process.exitcode
        self.process = None
        if code is not None and code < 0:
            return Message("lost", text=f"its process was ended from outside (signal {-code}), perhaps out of memory")
        return Message("lost", text=f"its process ended with exit code {code}")


# --- in the process ----------------------------------------------------------------------------------------------


def _serve(
    pipe: Any, root: Path, device: str, save_every: float, tensorboard: bool, prepare: Callable[[], object] | None
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if torch.device(device).type == "cpu":
        torch.set_num_threads(1)  # one process a core: more threads would fight
    if prepare is not None:
        prepare()

    def tell(message: Message) -> None:
        with suppress(OSError):  # the parent no longer listens, and ends this process if that is what it wants
            pipe.send(message)

    store = Store(root, say=lambda sentence: tell(Message("note", text=sentence)))
    while True:
        try:
            job: Job = pipe.recv()
        except EOFError:
            return
        try:
            execute(
                job.run,
                store,
                job.measurements,
                device=device,
                on_epoch=lambda record: tell(Message("epoch", gradients=record.gradients)),
                save_every=save_every,
                tensorboard=tensorboard,
            )
            tell(Message("done"))
        except BusyError:
            tell(Message("elsewhere"))
        except UnwritableError as error:
            tell(Message("unwritable", error=error))
        except Exception as error:
            tell(Message("failed", text=f"{type(error).__name__}: {error}"))


def _end_with_parent() -> None:
    """End this process when its parent is gone, however that ended: a killed parent cannot tell its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold signals back while a process starts.

    It inherits this, and would answer Ctrl-C with a traceback before it comes to ``_serve``. And this process would
    leave behind one that it does not know yet.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    # The tracker of resources starts with the first process and would let Ctrl-C through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
