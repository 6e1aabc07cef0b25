"""Doing the runs that are not done yet, on as many processes as there are cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import connection, resource_tracker

import torch

from lookbehind.compare.runs import Result, Run, execute
from lookbehind.compare.store import Store


def work(runs: Sequence[Run], store: Store, on_done: Callable[[Run, Result], None]) -> None:
    """Execute runs and keep each result on disk as soon as it is there.

    Args:
        runs: what is to be done.
        store: where results go.
        on_done: called after each run, in this process.

    Raises:
        OSError: if a result cannot be written.
        BrokenProcessPool: if a process is killed from outside.
        KeyboardInterrupt: on Ctrl-C; the processes are ended first.

    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = min(cores, len(runs)) if all(run.device == "cpu" for run in runs) else 1
    if not runs:
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_start)
    try:
        with _ctrl_c_held():
            futures = {pool.submit(_execute_and_save, run, store): run for run in runs}
        for future in as_completed(futures):
            on_done(futures[future], future.result())
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _start() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C
    torch.set_num_threads(1)  # one process a core: more threads would fight


def _end_with_parent() -> None:
    """End this process when the command is gone, however it ended: a killed parent cannot tell its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


@contextmanager
def _ctrl_c_held() -> Iterator[None]:
    """Hold Ctrl-C back while processes start: they inherit this, and would answer with a traceback before `_start`."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    # The tracker of resources starts with the first process and would let Ctrl-C through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _execute_and_save(run: Run, store: Store) -> Result:
    result = execute(run)
    store.save(run, result)
    return result
