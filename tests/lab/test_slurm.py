"""Runs as jobs of a cluster: what is asked of Slurm, and what a real one does to them."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookbehind.lab import Event, NoiseSettings, Run, Store, Workload, execute
from lookbehind.lab.engines.slurm import LARGEST_ARRAY, LOOK_EVERY, Slurm, chunks, fill
from lookbehind.lab.engines.slurm_queue import Queue
from lookbehind.lab.estimate import TWO_CORES, seconds
from lookbehind.lab.files import write_json
from lookbehind.models import MODELS, ConvNet, Model
from tests.lab.cluster import Cluster, NoClusterError, cluster
from tests.lab.command import runs
from tests.lab.runs import SAM, TINY, numbers

pytestmark = pytest.mark.timeout(600)  # a job that was put back waits, and other tests run beside these
ROOT = Path(__file__).resolve().parents[2]
NOISE = NoiseSettings(sigmas=(0.1,), draws=2)
ALONE = Slurm(chunk=0, minutes=10)  # each run in a job of its own
Epoch = tuple[int, int]  # seed, number
Programs = Callable[..., None]


def fail(sentence: str) -> None:
    raise AssertionError(sentence)


# --- without a cluster -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"minutes": 0}, "minutes is 0; a whole number of at least 1 is needed"),
        ({"cpus": 1.5}, "cpus is 1.5; a whole number of at least 1 is needed"),
        ({"gpus": -1}, "gpus is -1; a whole number of at least 0 is needed"),
        ({"parallel": True}, "parallel is True; a whole number of at least 1 is needed"),
        ({"chunk": 61, "minutes": 60}, "chunk is 61; at most the time limit of 60 minutes is allowed"),
    ],
)
def test_options_that_cannot_be(options: Any, sentence: str) -> None:
    with pytest.raises(ValueError) as error:
        Slurm(**options)
    assert str(error.value) == sentence


@given(
    st.lists(st.integers(1, 3000), min_size=1, max_size=40),
    st.integers(0, 60),
    st.integers(1, 4),
)
def test_each_run_is_in_one_job_that_lasts(epochs: list[int], minutes: int, cpus: int) -> None:
    todo = {
        Run(workload=TINY.model_copy(update={"epochs": number, "train": 1500}), method=SAM, seed=seed): ()
        for seed, number in enumerate(epochs)
    }
    divided = chunks(todo, Slurm(chunk=minutes, cpus=cpus))
    flat = [run for chunk in divided for run, _ in chunk]
    assert Counter(flat) == Counter(todo.keys())
    costs = [[seconds(run, (), TWO_CORES) for run, _ in chunk] for chunk in divided]
    assert sorted(itertools.chain(*costs), reverse=True) == list(itertools.chain(*costs))
    enough = 60 * minutes * cpus
    assert all(sum(chunk) >= enough for chunk in costs[:-1])
    assert all(sum(chunk[:-1]) < enough for chunk in costs if len(chunk) > 1)
    assert minutes or len(divided) == len(todo)


def test_an_array_has_no_more_jobs_than_slurm_takes() -> None:
    todo = dict.fromkeys(runs(2500, 2), (NOISE,))
    divided = chunks(todo, ALONE)
    assert 800 < len(divided) <= LARGEST_ARRAY
    assert sum(map(len, divided)) == 2500


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Make Slurm's programs do what a shell line says."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(**lines: str) -> None:
        for name, line in lines.items():
            (folder / name).write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{line}\n")
            (folder / name).chmod(0o755)

    return make


def test_what_is_asked_of_slurm(tmp_path: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    programs(
        sbatch=f'cp "$1" {tmp_path}/script; echo Submitted batch job 7', srun="", squeue="", scancel="", scontrol=""
    )
    slurm = Slurm(partition="gpu", account="us", minutes=90, cpus=4, gpus=2, parallel=3, chunk=0)
    said: list[str] = []

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fill([(run, []) for run in runs(5, 2)], Store(tmp_path / "store"), slurm, say=said.append)
    script = (tmp_path / "script").read_text()
    (folder,) = (path for path in (tmp_path / "store" / "slurm").iterdir() if path.is_dir())
    asked = dict(
        line.removeprefix("#SBATCH --").partition("=")[::2] for line in script.splitlines() if "#SBATCH" in line
    )
    assert asked == {
        "job-name": f"lookbehind-{folder.name}",
        "partition": "gpu",
        "account": "us",
        "time": "90",
        "nodes": "1",
        "cpus-per-task": "4",
        "gpus-per-node": "2",
        "array": "0-4%3",
        "requeue": "",
        "signal": "TERM@300",
        "open-mode": "append",
        "output": f"{folder}/%A_%a_0_log.out",
        "error": f"{folder}/%A_%a_0_log.err",
    }
    (command,) = (line for line in script.splitlines() if line.startswith("srun"))
    assert "--cpus-per-task=4" in command
    assert command.endswith(f"-m submitit.core._submit {folder}")
    assert said == [f"5 runs are in 5 Slurm jobs, 7; logs: {tmp_path / 'store' / 'slurm'}"]


def test_the_queue_is_asked_until_it_answers(
    tmp_path: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what Ctrl-C is to end is ended: of this call, not of others."""
    store, said = Store(tmp_path / "store", say=fail), list[str]()
    ours, others = runs(2, 2)
    for name, run in {"aa": ours, "bb": others}.items():
        (store.root / "slurm" / name).mkdir(parents=True)
        write_json(store.root / "slurm" / name / "chunks.json", {"chunks": [["x"], [run.address]]})
    asked = tmp_path / "asked"
    programs(
        squeue=f"test -e {asked} || {{ touch {asked}; echo no controller >&2; exit 1; }}\n"
        "printf 'lookbehind-aa 7_1\\nlookbehind-bb 8_1\\n'",
        scancel=f'echo "$@" > {tmp_path}/cancelled',
        sbatch="exit 1",
        srun="",
        scontrol="",
    )

    def interrupt(seconds: float) -> None:
        if seconds == LOOK_EVERY * 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fill([(ours, [])], store, Slurm(cancel=True), say=said.append, look_every=LOOK_EVERY * 2)
    assert said == [
        "squeue does not answer (no controller). It is asked again.",
        "1 runs are in jobs of an earlier call, which are waited for.",
        "Slurm jobs 7 are cancelled. The same command goes on from the last checkpoints.",
    ]
    assert (tmp_path / "cancelled").read_text() == "7\n"


def test_a_damaged_note_of_a_submission(tmp_path: Path, programs: Programs) -> None:
    said: list[str] = []
    store = Store(tmp_path / "store", say=said.append)
    (store.root / "slurm" / "aa").mkdir(parents=True)
    (store.root / "slurm" / "aa" / "chunks.json").write_text("x")
    programs(squeue="echo lookbehind-aa 7_1")
    assert Queue(store, fail).living() == {}
    assert "chunks.json is not used" in said[0]


def test_what_is_not_there(tmp_path: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [(runs(1, 2)[0], [])]
    with pytest.raises(ValueError, match=r"^Slurm's sbatch is not found; call this on"):
        fill(wanted, Store(tmp_path / "store"), ALONE)
    programs(**dict.fromkeys(["sbatch", "srun", "squeue", "scontrol", "scancel"], ""))
    monkeypatch.setattr("lookbehind.lab.engines.slurm_queue.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^submitit is not installed: pip install"):
        fill(wanted, Store(tmp_path / "store"), ALONE)
    assert not (tmp_path / "store").exists()


# --- in a job ----------------------------------------------------------------------------------------------------


def tally(path: Path, pause: float) -> None:
    """Note each epoch that a process trains, with its node; register a model that takes its process with it."""
    log = Store.log

    def logged(self: Store, run: Run, record: Any) -> None:
        log(self, run, record)
        with path.open("a") as file:
            file.write(f"{run.seed} {record['epoch']} {os.environ['SLURMD_NODENAME']}\n")
        time.sleep(pause)

    Store.log = logged  # type: ignore[method-assign]
    MODELS["deadly"] = Model(deadly, "for tests")  # type: ignore[index]


def deadly(channels: int, classes: int) -> ConvNet:
    if multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return ConvNet(channels, classes)


def epochs(path: Path) -> Counter[Epoch]:
    lines = path.read_text().splitlines() if path.exists() else []
    return Counter((int(seed), int(epoch)) for seed, epoch, _ in map(str.split, lines))


def nodes(path: Path) -> dict[str, set[int]]:
    """Which runs each node has trained something of, by seed."""
    found: dict[str, set[int]] = {}
    for seed, _, node in map(str.split, path.read_text().splitlines()):
        found.setdefault(node, set()).add(int(seed))
    return found


# --- on a cluster ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    pytest.importorskip("submitit")
    try:
        with cluster(["n1", "n2"]) as running, pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", running.environment["SLURM_CONF"])
            patch.setenv("PYTHONPATH", str(ROOT))  # jobs import this file
            yield running
    except NoClusterError as error:
        pytest.skip(str(error))


class Watch:
    """Fills a store on the cluster, and does something once, when an event says so."""

    def __init__(self, folder: Path, pause: float = 0.0, slurm: Slurm = ALONE, save_every: float = 0.0) -> None:
        self.store, self.path = Store(folder / "store", say=fail), folder / "tally"
        self.pause, self.slurm, self.save_every = pause, slurm, save_every
        self.events: list[Event] = []
        self.said: list[str] = []

    def fill(self, wanted: Any, when: Callable[[], bool] = lambda: False, do: Callable[[], object] = fail) -> Any:
        did: list[bool] = []

        def hear(event: Event) -> None:
            self.events.append(event)
            if not did and when():
                did.append(True)
                do()

        prepare = partial(tally, self.path, self.pause)
        return fill(
            wanted,
            self.store,
            self.slurm,
            hear,
            save_every=self.save_every,
            prepare=prepare,
            look_every=0.3,
            say=self.said.append,
        )

    def right(self, wanted: list[Run], tmp_path: Path) -> None:
        """All results are those of runs that nothing happened to."""
        for run in wanted:
            assert numbers(self.store.result(run)) == numbers(execute(run, Store(tmp_path / "alone")))


def both_at_work(watch: Watch) -> Callable[[], bool]:
    return lambda: {seed for seed, epoch in epochs(watch.path) if epoch > 3} >= {0, 1}


def test_ctrl_c_leaves_jobs_that_the_same_call_attaches_to(slurm: Cluster, tmp_path: Path) -> None:
    """And a signal of the user's makes them save and come back. But for it, there would be no checkpoint."""
    wanted, watch = runs(2, 40), Watch(tmp_path, pause=0.1, save_every=1e9)
    with pytest.raises(KeyboardInterrupt):
        watch.fill([(run, []) for run in wanted], both_at_work(watch), partial(signal.raise_signal, signal.SIGINT))
    (first,) = {line.split("_")[0] for line in slurm.ask("squeue", "-h", "-r", "-o", "%i").split()}
    assert watch.said[0].startswith(f"2 runs are in 2 Slurm jobs, {first}; logs: ")
    assert f"`scancel {first}` ends them" in watch.said[1]
    again = [(wanted[0], [NOISE]), (wanted[1], [])]
    assert watch.fill(again, both_at_work(watch), lambda: slurm.ask("scancel", "--me", "--signal=USR1")) == {}
    assert watch.said[2].startswith("2 runs are in jobs of an earlier call")
    assert watch.said[3].startswith("1 runs are in 1 Slurm jobs")  # for what the earlier call did not ask for
    assert len(watch.said) == 4
    assert all(watch.store.complete(*task) for task in again)
    assert epochs(watch.path) == Counter({(run.seed, epoch): 1 for run in wanted for epoch in range(1, 41)})
    watch.right(wanted, tmp_path)
    watch.events.clear()
    assert watch.fill(again) == {}
    assert watch.events == []


def test_a_preempted_job_saves_and_goes_on(slurm: Cluster, tmp_path: Path) -> None:
    """What matters more takes both nodes. But for the signal, there would be no checkpoint."""
    wanted, watch = runs(2, 30), Watch(tmp_path, pause=0.1, save_every=1e9)

    def preempt() -> None:
        slurm.ask("sbatch", "--partition=high", "--array=0-1", "--output=/dev/null", "--wrap", "sleep 3")

    assert watch.fill([(run, []) for run in wanted], both_at_work(watch), preempt) == {}
    assert epochs(watch.path) == Counter({(run.seed, epoch): 1 for run in wanted for epoch in range(1, 31)})
    watch.right(wanted, tmp_path)


def test_what_fails_is_recorded_and_the_rest_goes_on(slurm: Cluster, tmp_path: Path) -> None:
    """In one job: a run that cannot be, one that takes its process with it, two good ones, a measured one."""
    watch = Watch(tmp_path, slurm=Slurm(minutes=10, chunk=5))
    good = runs(3, 2)
    impossible = Run(workload=Workload(**{**TINY.model_dump(), "validation": 10**6}), method=SAM)
    lost = Run(workload=TINY.model_copy(update={"model": "deadly"}), method=SAM)
    MODELS["deadly"] = Model(deadly, "for tests")  # type: ignore[index]
    execute(good[0], watch.store)
    wanted = [(run, []) for run in (*good, impossible, lost)] + [(good[0], [NOISE])]
    failures = watch.fill(wanted)
    assert watch.said[0].startswith("5 runs are in 1 Slurm jobs")
    assert set(failures) == {impossible, lost}
    assert failures[impossible].startswith("ValueError: validation is 1000000")
    assert "signal 9" in failures[lost]
    assert all(watch.store.failure(run) == text for run, text in failures.items())
    assert watch.store.complete(good[0], [NOISE])
    watch.right(good, tmp_path)


def test_a_cancelled_job_does_not_come_back(slurm: Cluster, tmp_path: Path) -> None:
    (run,), watch = runs(1, 2000), Watch(tmp_path, pause=0.05)
    with watch.store.lock(run):
        watch.store.save_failure(run, "what went wrong before", {})
    failures = watch.fill([(run, [])], lambda: len(epochs(watch.path)) > 2, lambda: slurm.ask("scancel", "--me"))
    assert "ended without a result (CANCELLED)" in failures[run]
    assert watch.store.failure(run) == failures[run]
    assert watch.store.checkpoint(run) is not None
    time.sleep(1)
    assert slurm.ask("squeue", "-h") == ""


def test_a_refused_job_is_a_mistake(slurm: Cluster, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^Slurm refuses the jobs: invalid partition specified: nowhere;"):
        fill([(runs(1, 2)[0], [])], Store(tmp_path), Slurm(partition="nowhere"))
    assert [path.name for path in (tmp_path / "slurm").iterdir()] == [".lock"]


def test_nothing_is_lost_with_a_node_and_nothing_trained_twice(slurm: Cluster, tmp_path: Path) -> None:
    wanted, watch = runs(3, 40), Watch(tmp_path, pause=0.1)
    struck: set[int] = set()

    def strike() -> None:
        before = epochs(watch.path)
        struck.update(seed for seed in nodes(watch.path)["n2"] if (seed, 40) not in before)
        slurm.kill("n2")

    other = Watch(tmp_path, pause=0.1)  # a second command at the same moment
    thread = threading.Thread(target=other.fill, args=([(run, []) for run in wanted],))
    thread.start()
    assert watch.fill([(run, []) for run in wanted], both_at_work(watch), strike) == {}
    thread.join()
    assert sorted(said.split()[:6] for said in watch.said + other.said) == [
        ["3", "runs", "are", "in", "3", "Slurm"],
        ["3", "runs", "are", "in", "jobs", "of"],
    ]
    assert len(struck) == 1
    trained = epochs(watch.path)
    assert set(trained) == {(run.seed, epoch) for run in wanted for epoch in range(1, 41)}
    # The node may have died between an epoch and its checkpoint.
    again = {epoch: times for epoch, times in trained.items() if times > 1}
    assert len(again) <= 1
    assert all(seed in struck and times == 2 for (seed, _), times in again.items())
    assert struck <= nodes(watch.path)["n1"]
    watch.right(wanted, tmp_path)
