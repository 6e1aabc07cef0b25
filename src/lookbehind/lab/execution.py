"""One run, from its description to its result on disk: begun, gone on with, or found done."""

from __future__ import annotations

import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch

from lookbehind._random import random_state, set_random_state
from lookbehind.lab.environment import environment
from lookbehind.lab.files import UnwritableError
from lookbehind.lab.measuring import measure
from lookbehind.lab.result import Record, Result, finite
from lookbehind.lab.run import Measurement, Run
from lookbehind.lab.store import CHECKPOINT, Store
from lookbehind.lab.workloads import training
from lookbehind.lab.workloads.trainer import EpochTrainer

SAVE_EVERY = 10.0  # seconds
TERMINATED = 128 + signal.SIGTERM


def execute(
    run: Run,
    store: Store,
    measurements: Sequence[Measurement] = (),
    *,
    device: str = "cpu",
    on_epoch: Callable[[Record], None] | None = None,
    save_every: float = SAVE_EVERY,
    tensorboard: bool = False,
) -> Result:
    """Train a run and measure it, or what of it is not done yet.

    An interrupted run continues from its last checkpoint, and ends bit for bit where it would have ended. That holds on
    the same kind of device, with the same libraries and number of threads, and not for seconds. On SIGTERM it is saved
    at the end of the epoch, and ``SystemExit`` is raised. Any other exception is kept in the store as the run's
    failure.

    Args:
        run: what to train.
        store: where it is kept.
        measurements: what to measure of the finished run. A diverged one is not measured.
        device: where to train. Default "cpu".
        on_epoch: called with each epoch's ``Record``.
        save_every: seconds between checkpoints, at least; they are written at ends of epochs. Default 10.
        tensorboard: write curves for TensorBoard too, into the run's folder. Default False.

    Returns:
        The ``Result``.

    Raises:
        ValueError: if TensorBoard is asked for and not installed.
        BusyError: if another process is at this run.
        UnwritableError: an ``OSError``, if the store cannot be written to. What is there is then as it was.
        SystemExit: after SIGTERM.

    Example:
        >>> import tempfile
        >>> from lookbehind.lab import Method, Store, Workload
        >>> digits = Workload(dataset="digits", model="convnet", train=64, epochs=2, batch=32)
        >>> run = Run(workload=digits, method=Method(kind="sam", perturbation="sam", rho=0.05))
        >>> with tempfile.TemporaryDirectory() as root:
        ...     result = execute(run, Store(root))
        >>> result.status, result.gradients, len(result.records)
        ('finished', 8, 2)

    """
    if tensorboard:
        check_tensorboard()
    with store.lock(run):
        try:
            result = store.result(run)
            whole = store.complete(run, measurements) or store.weights(run) is not None
            if result is None or not whole:
                result = _Execution(run, store, device, on_epoch, save_every, tensorboard).to_the_end()
            if result.status == "finished":
                for measurement in measurements:
                    if store.measured(run, measurement) is None:
                        measure(run, store, measurement, device)
            store.forget_failure(run)
            return result
        except UnwritableError:
            raise
        except Exception as error:
            about = {"traceback": traceback.format_exc(), "environment": environment(device)}
            store.save_failure(run, f"{type(error).__name__}: {error}", about)
            raise


class _Execution:
    """The training of a run from the store to the store. It can be interrupted anywhere."""

    def __init__(
        self,
        run: Run,
        store: Store,
        device: str,
        on_epoch: Callable[[Record], None] | None,
        save_every: float,
        tensorboard: bool,
    ) -> None:
        self.run, self.store, self.on_epoch, self.save_every = run, store, on_epoch, save_every
        self.device = device
        self.records: list[dict[str, Any]] = []  # with numbers that are not finite, unlike a Record
        self.environments: list[dict[str, Any]] = []
        self.training = self._restored()
        here = environment(device)
        if not self.environments or self.environments[-1] != {**here, "after": self.environments[-1]["after"]}:
            self.environments.append({**here, "after": len(self.records)})  # so many epochs
        self.tensorboard = tensorboard

    def to_the_end(self) -> Result:
        """Train what is left, and keep the result."""
        run, training = self.run, self.training
        data = finite(dict(training.data))
        about = {"environments": self.environments, "seed": run.seed, "data": data}
        self.store.begin(run, map(finite, self.records), about)
        self.saved = time.monotonic()
        with _sigterm_noted() as self.terminated, self._curves() as self.curves:
            training.train(self._after_epoch)
        result = self.store.finish(
            run,
            training.model.state_dict(),
            status="diverged" if training.diverged else "finished",
            records=[Record.model_validate(finite(record)) for record in self.records],
            data=data,
            environments=self.environments,
        )
        if any(self.store.agreed(bool(self.terminated))):
            raise SystemExit(TERMINATED)
        return result

    def _after_epoch(self, epoch: Mapping[str, Any]) -> None:
        self.records.append({"epoch": len(self.records) + 1, **epoch})
        record = finite(self.records[-1])
        self.store.log(self.run, record)
        if not self.training.diverged:  # else the result follows at once
            due = time.monotonic() - self.saved >= self.save_every
            terminated, due = self.store.agreed(bool(self.terminated), due)
            if terminated or due:
                self._save()
            if terminated:
                raise SystemExit(TERMINATED)
        if self.curves is not None:
            for name, value in record.items():
                if name != "epoch" and isinstance(value, (int, float)):
                    self.curves.add_scalar(name, value, record["epoch"])
        if self.on_epoch is not None:
            self.on_epoch(Record.model_validate(record))

    @contextmanager
    def _curves(self) -> Iterator[Any]:
        """Yield a writer for TensorBoard, where it is asked for, that takes back what it has of the epochs to come."""
        if not self.tensorboard:
            yield None
            return
        from torch.utils.tensorboard import SummaryWriter

        folder = self.store.folder(self.run) / "tensorboard"
        with SummaryWriter(folder, purge_step=len(self.records) + 1) as writer:
            yield writer

    def _save(self) -> None:
        self.store.save_checkpoint(
            self.run,
            {
                "records": self.records,
                "environments": self.environments,
                "training": self.training.state_dict(),
                "random": {str(device): state for device, state in random_state([torch.device(self.device)]).items()},
            },
        )
        self.saved = time.monotonic()

    def _restored(self) -> EpochTrainer:
        """Return the trainer at the last checkpoint, or at its beginning."""
        fresh = training(self.run, self.device)
        state = self.store.checkpoint(self.run)
        if state is None:
            return fresh
        try:
            fresh.load_state_dict(state["training"])
            self.environments, self.records = state["environments"], state["records"]
            set_random_state({torch.device(device): value for device, value in state["random"].items()})
            return fresh
        except torch.OutOfMemoryError:
            raise
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            path = self.store.folder(self.run) / CHECKPOINT
            self.store.say(f"{path} does not fit this version ({error}). The run begins anew.")
            self.environments, self.records = [], []
            return training(self.run, self.device)


@contextmanager
def _sigterm_noted() -> Iterator[list[int]]:
    """Let SIGTERM wait for the end of the epoch, where the run can be saved; yield the signals that have arrived."""
    arrived: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # others may not handle signals
        yield arrived
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: arrived.append(number))
    try:
        yield arrived
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def check_tensorboard() -> None:
    """See that TensorBoard is there.

    Raises:
        ValueError: if it is not.

    """
    if find_spec("tensorboard") is None:
        raise ValueError("TensorBoard is not installed: pip install tensorboard, or do without its curves")
