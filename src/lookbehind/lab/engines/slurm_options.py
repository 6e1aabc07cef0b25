"""Options of Slurm jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

GRACE = 300  # seconds before its time limit at which a job is told, to save at the end of an epoch


@dataclass(frozen=True)
class Slurm:
    """Options of Slurm jobs.

    For everything else ``sbatch`` reads variables: ``SBATCH_QOS``, ``SBATCH_CONSTRAINT``, ``SBATCH_MEM_PER_NODE``, …

    Args:
        partition: of the cluster. Default: its own default.
        account: that is charged. Default: the user's.
        minutes: time limit of a job. One that reaches it is saved and requeued. Default 240.
        cpus: of a job; without GPUs as many runs at a time, with one thread each. Default 1.
        gpus: of a job; as many runs at a time, one on each. Default 0.
        parallel: jobs of an array that may run at a time. Default 100.
        chunk: minutes of work for a job, estimated: short runs share one. 0: a job for each run. Default 30.
        cancel: let Ctrl-C cancel the jobs too. Default False.

    Raises:
        ValueError: if a number is too small, or a chunk does not fit the time limit.

    Example:
        >>> Slurm(partition="gpu", cpus=4, gpus=1, minutes=60).devices
        ('cuda:0',)

    """

    partition: str | None = None
    account: str | None = None
    minutes: int = 240
    cpus: int = 1
    gpus: int = 0
    parallel: int = 100
    chunk: int = 30
    cancel: bool = False

    def __post_init__(self) -> None:
        for name, least in {"minutes": 1, "cpus": 1, "gpus": 0, "parallel": 1, "chunk": 0}.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} is {value!r}; a whole number of at least {least} is needed")
        if self.chunk > self.minutes:
            raise ValueError(f"chunk is {self.chunk}; at most the time limit of {self.minutes} minutes is allowed")

    @property
    def devices(self) -> tuple[str, ...]:
        """Return the devices of a job."""
        return tuple(f"cuda:{i}" for i in range(self.gpus)) or ("cpu",)

    @property
    def at_a_time(self) -> int:
        """Runs of a job at a time."""
        return self.gpus or self.cpus

    @property
    def grace(self) -> int:
        """Seconds between a job's being told and its time limit."""
        return min(GRACE, 30 * self.minutes)

    def parameters(self, name: str) -> dict[str, Any]:
        """Return these settings as submitit wants them."""
        wishes = {"partition": self.partition, "account": self.account, "gpus_per_node": self.gpus or None}
        return {
            "job_name": name,
            "wckey": None,  # else submitit sets one, which a cluster that counts by them does not know
            "time": self.minutes,
            "cpus_per_task": self.cpus,
            "array_parallelism": self.parallel,
            "srun_args": [f"--cpus-per-task={self.cpus}"],  # since 22.05, srun does not take it from sbatch
            # The signal that the local engine knows, and that preemption sends.
            "additional_parameters": {"requeue": True, "signal": f"TERM@{self.grace}"},
            **{key: value for key, value in wishes.items() if value is not None},
        }
