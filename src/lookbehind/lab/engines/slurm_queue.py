"""The queue of a Slurm cluster, and how a store and the jobs in it find each other."""

from __future__ import annotations

import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

from lookbehind.lab.engines.slurm_job import Chunk
from lookbehind.lab.engines.slurm_options import Slurm
from lookbehind.lab.files import DamagedError, read_json, write_json, writing
from lookbehind.lab.store import Store

PROGRAMS = ("sbatch", "srun", "squeue", "scontrol", "scancel")
ASK_AGAIN = 10.0  # seconds


class Queue:
    """Slurm's queue, as far as it is about a store.

    Each submission has a folder in the store, ``slurm/<name>/``, with what its jobs are about, their scripts and logs.
    It is written first, and jobs bear its name, so that no job is ever unknown.
    """

    def __init__(self, store: Store, say: Callable[[str], None]) -> None:
        self.store, self.folder, self.say = store, store.root.resolve() / "slurm", say

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other commands from submitting, between a look and a submission."""
        with writing(self.folder):
            self.folder.mkdir(exist_ok=True)
            lock = FileLock(self.folder / ".lock")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def submit(self, jobs: Sequence[Chunk], cluster: Slurm) -> list[str]:
        """Submit an array of jobs; return their ids."""
        from submitit import SlurmExecutor
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        folder = self.folder / uuid.uuid4().hex[:8]
        with writing(folder):
            folder.mkdir()
        write_json(folder / "chunks.json", {"chunks": [[run.address for run, _ in job.wanted] for job in jobs]})
        executor = SlurmExecutor(folder)
        executor.update_parameters(**cluster.parameters(_name(folder)))
        try:
            with executor.batch():
                submitted = [executor.submit(job) for job in jobs]
        except (FailedJobError, FailedSubmissionError) as error:
            shutil.rmtree(folder)
            reasons = [line.removeprefix("sbatch: error: ") for line in str(error).strip().splitlines()]
            raise ValueError(f"Slurm refuses the jobs: {'; '.join(reasons)}") from error
        return [job.job_id for job in submitted]

    def living(self) -> dict[str, str]:
        """Return the jobs in the queue by the addresses of their runs."""
        known = {_name(path): path for path in self.folder.glob("[!.]*") if path.is_dir()}
        if not known:
            return {}
        found: dict[str, str] = {}
        for line in self._asked("--array", f"--name={','.join(known)}", "--format=%j %i").splitlines():
            name, job_id = line.split()
            for address in self._chunk(known[name], job_id):
                found[address] = job_id
        return found

    def _asked(self, *options: str) -> str:
        """Return what squeue answers, as soon as it does: the controller of a busy cluster is not always there."""
        while True:
            answer = subprocess.run(["squeue", "--noheader", *options], capture_output=True, text=True)
            if answer.returncode == 0:
                return answer.stdout
            self.say(f"squeue does not answer ({answer.stderr.strip()}). It is asked again.")
            time.sleep(ASK_AGAIN)

    def _chunk(self, folder: Path, job_id: str) -> list[str]:
        path = folder / "chunks.json"
        try:
            content = read_json(path)
        except DamagedError as error:
            self.store.say(f"{path} is not used: {error}. Its runs are submitted again.")
            return []
        divided: list[list[str]] = content["chunks"] if content else []
        return divided[int(job_id.partition("_")[2] or 0)] if divided else []

    def state(self, job_id: str) -> str:
        """Return the state of a job that has ended, in brackets, while Slurm remembers it."""
        shown = subprocess.run(["scontrol", "-o", "show", "job", job_id], capture_output=True, text=True).stdout.split()
        states = [word.partition("=")[2] for word in shown if word.startswith("JobState=")]
        return f" ({states[0]})" if states else ""


def _name(folder: Path) -> str:
    return f"lookbehind-{folder.name}"


def check_slurm() -> None:
    """See that Slurm and submitit are there.

    Raises:
        ValueError: if one is not.

    """
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise ValueError(f"Slurm's {missing[0]} is not found; call this on a machine that submits to a cluster")
    if find_spec("submitit") is None:
        raise ValueError('submitit is not installed: pip install ".[distributed]" in the clone')
