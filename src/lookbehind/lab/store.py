"""Runs on disk. What is finished is never lost, what is damaged is never believed."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock, Timeout  # torch depends on it
from pydantic import ValidationError

from lookbehind.lab.files import DamagedError, UnwritableError, read, read_json, write, write_json, writing
from lookbehind.lab.result import Result
from lookbehind.lab.run import Measurement, Run

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
RUN, LOG, CHECKPOINT, WEIGHTS, RESULT, FAILURE = (
    "run.json",
    "log.jsonl",
    "last.pt",
    "weights.safetensors",
    "result.json",
    "failed.json",
)
_NAMES = "|".join(map(re.escape, (RUN, LOG, CHECKPOINT, WEIGHTS, RESULT, FAILURE)))
_LEFT_BEHIND = re.compile(rf"\.({_NAMES}|[0-9a-f]{{16}}\.json)\.\d+\.writing")


class BusyError(Exception):
    """Another process is at this run."""


class DamageWarning(UserWarning):
    """A file of the store is damaged, and what it held is done again."""


class Store:
    """A folder with a folder for each run, ``runs/<address>/``, that can be moved.

    - ``run.json``: settings and environments, for the reader; read by nothing
    - ``log.jsonl``: a line for each epoch; read for progress alone
    - ``last.pt``: the checkpoint of an unfinished run
    - ``weights.safetensors``: the final weights
    - ``result.json``: a ``Result``, its run, and the sha256 of the weights; with it, the run is done
    - ``<address>.json``: a measurement of these weights
    - ``failed.json``: the error of the last attempt, until one succeeds

    ``slurm/`` beside ``runs/`` has the jobs of a cluster and their logs.

    Each file is written whole or not at all, and has a checksum. It is read only if the checksum is right and the file
    is about the run that was asked for. Otherwise a warning says so, and the file counts as missing.

    Args:
        root: the folder.
        say: called with a sentence for each damaged file. Default: ``warnings.warn``.

    Example:
        >>> from lookbehind.lab import Method, Run, Workload
        >>> run = Run(workload=Workload(dataset="digits", model="convnet", epochs=1), method=Method(kind="base"))
        >>> with tempfile.TemporaryDirectory() as root:
        ...     print(Store(root).result(run))
        None

    """

    def __init__(self, root: str | Path, say: Callable[[str], None] | None = None) -> None:
        self.root = Path(root).expanduser()
        self._say = say or (lambda sentence: warnings.warn(sentence, DamageWarning, stacklevel=2))
        self._said: set[str] = set()

    def open(self) -> None:
        """Make the folder and see that it can be written to.

        Raises:
            UnwritableError: an ``OSError``, if it cannot.

        """
        with writing(self.root):
            (self.root / "runs").mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root / "runs"):
                pass

    def folder(self, run: Run) -> Path:
        """Return where a run is kept."""
        return self.root / "runs" / run.address

    def say(self, sentence: str) -> None:
        """Say a sentence, once."""
        if sentence not in self._said:
            self._said.add(sentence)
            self._say(sentence)

    @contextmanager
    def lock(self, run: Run) -> Iterator[None]:
        """Keep a run to this process. The system opens the lock when the process ends, however it does.

        Raises:
            BusyError: if another process has it.
            UnwritableError: if the folder cannot be written to.

        """
        folder = self.folder(run)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / ".lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise BusyError(f"another process is training {run.address}") from None
        try:
            yield
        finally:
            lock.release()

    def agreed(self, *decisions: bool) -> tuple[bool, ...]:
        """Return decisions as all processes take them that train a run together. Here there is one."""
        return decisions

    # --- what is there -----------------------------------------------------------------------------------------

    def result(self, run: Run) -> Result | None:
        """Return the result of a finished or diverged run, or None if there is none to believe."""
        return self._read(self.folder(run) / RESULT, run, lambda content: Result.model_validate(content["result"]))

    def measured(self, run: Run, measurement: Measurement) -> dict[str, Any] | None:
        """Return the values of a measurement of a run's present weights, or None if there are none to believe."""

        def values(content: dict[str, Any]) -> tuple[str, dict[str, Any]]:
            other = type(measurement).model_validate(content["measurement"]) != measurement
            if content["kind"] != type(measurement).__name__ or other:
                raise DamagedError("it belongs to another measurement")
            return content["weights"], content["values"]

        result = self.result(run)
        found = self._read(self.folder(run) / f"{measurement.address}.json", run, values)
        return found[1] if found and result and found[0] == result.weights else None

    def failure(self, run: Run) -> str | None:
        """Return what went wrong when a run was last tried, or None if nothing did."""
        return self._read(self.folder(run) / FAILURE, run, lambda content: str(content["error"]))

    def complete(self, run: Run, measurements: Iterable[Measurement] = ()) -> bool:
        """Return whether a run is done, and with it its measurements. There are none of a diverged run."""
        result = self.result(run)
        if result is None or result.status == "diverged":
            return result is not None
        return all(self.measured(run, measurement) is not None for measurement in measurements)

    def weights(self, run: Run) -> dict[str, Tensor] | None:
        """Return the final weights of a run, or None if there are none to believe."""
        from safetensors.torch import load

        result, path = self.result(run), self.folder(run) / WEIGHTS
        if result is None:
            return None
        try:
            content = read(path)
            if content is None:
                raise DamagedError("it is missing")
            if hashlib.sha256(content).hexdigest() != result.weights:
                raise DamagedError("its checksum is wrong")
        except DamagedError as error:
            self._damaged(path, error, "The run is done again")
            return None
        return load(content)

    def checkpoint(self, run: Run) -> dict[str, Any] | None:
        """Return the state of an unfinished run, or None if there is none to believe."""
        from lookbehind import checkpoint

        path = self.folder(run) / CHECKPOINT
        try:
            state = checkpoint.load(path)
            if Run.model_validate_json(state["run"]) != run:
                raise DamagedError("it belongs to another run")
        except FileNotFoundError:
            return None
        except (checkpoint.CheckpointError, DamagedError, KeyError, ValidationError) as error:
            self._damaged(path, error, "The run begins anew")
            return None
        return state

    # --- what is added -----------------------------------------------------------------------------------------

    def begin(self, run: Run, records: Iterable[Mapping[str, Any]], about: Mapping[str, Any]) -> None:
        """Write what a run is, and its log up to the epochs that are done."""
        folder = self.folder(run)
        for path in folder.iterdir():
            if _LEFT_BEHIND.fullmatch(path.name):  # by a process that was killed
                path.unlink(missing_ok=True)
        write_json(folder / RUN, {"run": run.model_dump(mode="json"), **about})
        write(folder / LOG, "".join(json.dumps(record) + "\n" for record in records).encode())

    def log(self, run: Run, record: Mapping[str, Any]) -> None:
        """Add an epoch to the log."""
        path = self.folder(run) / LOG
        with writing(path), path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def save_checkpoint(self, run: Run, state: Mapping[str, Any]) -> None:
        """Keep the state of an unfinished run."""
        from lookbehind import checkpoint

        path = self.folder(run) / CHECKPOINT
        with writing(path):
            checkpoint.save(path, {"run": run.model_dump_json(), **state})

    def finish(self, run: Run, weights: Mapping[str, Tensor], **result: Any) -> Result:
        """Keep the weights, then the result that names their checksum."""
        from safetensors.torch import save

        folder, content = self.folder(run), save({name: tensor.contiguous() for name, tensor in weights.items()})
        finished = Result(weights=hashlib.sha256(content).hexdigest(), **result)
        write(folder / WEIGHTS, content)
        write_json(
            folder / RESULT,
            {
                "run": run.model_dump(mode="json"),
                "summary": finished.summary(),
                "result": finished.model_dump(mode="json"),
            },
        )
        (folder / CHECKPOINT).unlink(missing_ok=True)
        return finished

    def save_measurement(
        self, run: Run, measurement: Measurement, values: Mapping[str, Any], about: Mapping[str, Any]
    ) -> None:
        """Keep what was measured, with the checksum of the weights that it is about."""
        result = self.result(run)
        assert result is not None
        content = {
            "run": run.model_dump(mode="json"),
            "kind": type(measurement).__name__,
            "measurement": measurement.model_dump(mode="json"),
            "weights": result.weights,
            "values": values,
            **about,
        }
        write_json(self.folder(run) / f"{measurement.address}.json", content)

    def save_failure(self, run: Run, error: str, about: Mapping[str, Any]) -> None:
        """Keep what went wrong."""
        write_json(self.folder(run) / FAILURE, {"run": run.model_dump(mode="json"), "error": error, **about})

    def forget_failure(self, run: Run) -> None:
        """Drop what went wrong before it went right."""
        (self.folder(run) / FAILURE).unlink(missing_ok=True)

    # --- what is believed --------------------------------------------------------------------------------------

    def _read(self, path: Path, run: Run, meaning: Callable[[dict[str, Any]], T]) -> T | None:
        """Return what a file about a run means, or None if there is none to believe."""
        try:
            content = self._content(path)
            if content is None:
                return None
            # Plain values are compared first: to validate a run takes ten times as long.
            if content["run"] != run.model_dump(mode="json") and Run.model_validate(content["run"]) != run:
                raise DamagedError("it belongs to another run")
            return meaning(content)
        except (DamagedError, KeyError, ValidationError) as error:
            self._damaged(path, error, "What it held is done again")
            return None

    def _content(self, path: Path) -> dict[str, Any] | None:
        return read_json(path)

    def _damaged(self, path: Path, error: Exception, what: str) -> None:
        reason = error if isinstance(error, DamagedError) else "it is damaged, or not a file of this program"
        self.say(f"{path} is not used: {reason}. {what}.")


__all__ = ["BusyError", "DamageWarning", "Store", "UnwritableError"]
