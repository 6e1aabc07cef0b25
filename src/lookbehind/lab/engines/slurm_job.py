"""A Slurm job: what is asked for it, and what it does, which is the local engine at work on a chunk of the runs."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lookbehind.lab.engines import local
from lookbehind.lab.engines.slurm_options import Slurm
from lookbehind.lab.execution import TERMINATED
from lookbehind.lab.run import Measurement, Run
from lookbehind.lab.store import Store

USER_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)  # what sites, and users with SBATCH_SIGNAL, send before they kill

Wanted = tuple[tuple[Run, tuple[Measurement, ...]], ...]


@dataclass(frozen=True)
class Chunk:
    """Runs of one job, and how it trains them."""

    wanted: Wanted
    root: Path
    cluster: Slurm
    save_every: float
    tensorboard: bool
    prepare: Callable[[], object] | None

    def __call__(self) -> None:
        """Let the local engine do the runs. What fails is in the store."""
        for number in (signal.SIGTERM, *USER_SIGNALS):  # submitit ignores the first, and saves nothing on the last
            signal.signal(number, _leave)
        # An epoch may be longer than the grace. Then the job goes back as it is, before Slurm ends it for good.
        last_call = threading.Timer(60 * self.cluster.minutes - self.cluster.grace / 2, _requeue)
        last_call.daemon = True
        last_call.start()
        try:
            if self.prepare is not None:
                self.prepare()  # the local engine asks for data and costs of models before its processes start
            local.fill(
                self.wanted,
                Store(self.root, say=print),
                self.cluster.at_a_time,
                devices=self.cluster.devices,
                save_every=self.save_every,
                tensorboard=self.tensorboard,
                prepare=partial(_prepare, self.prepare),
            )
        except SystemExit:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # requeueing sends another
            _requeue()
            raise


def _leave(*_: object) -> None:
    raise SystemExit(TERMINATED)


def _prepare(prepare: Callable[[], object] | None) -> None:
    """Make ready a process that trains. Slurm sends signals to all processes, but one answers for all."""
    for number in USER_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if prepare is not None:
        prepare()


def _requeue() -> None:
    """Give this job back, unless it was cancelled."""
    subprocess.run(["scontrol", "requeue", "Incomplete", os.environ["SLURM_JOB_ID"]], check=False)
