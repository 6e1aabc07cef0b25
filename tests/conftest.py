"""One thread for each process: on a small or busy machine more threads make small tensors slower, not faster."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from filelock import FileLock

from lookbehind import _tensors

torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of processes started here: other numbers of threads round otherwise
# A shell lets what it starts in the background ignore Ctrl-C, and processes started here would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let steps do what they do with weights on another device than the CPU."""
    monkeypatch.setattr(_tensors, "on_host", lambda t: False)


@pytest.fixture(params=["cpu", "elsewhere"])
def elsewhere(request: pytest.FixtureRequest) -> bool:
    """Whether steps do what they do with weights on another device than the CPU; both are tried."""
    if request.param == "elsewhere":
        request.getfixturevalue("on_a_device")
    return bool(request.param == "elsewhere")


@pytest.hookimpl(optionalhook=True)  # other releases of torch are tried without pytest-xdist
def pytest_xdist_auto_num_workers() -> int:
    """One worker more than cores for ``-n auto``: some tests wait, for a cluster or for processes that they kill."""
    return 1 + (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def pytest_configure(config: pytest.Config) -> None:
    """Let ``--dist loadfile`` hand out files in the order below instead of those with most tests first."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the folders of the longest files: a worker that meets one late ends long after the others."""
    first = ("paper", "league", "lab", "docs", "compare", "cli", "examples", "real_training", "conformance")
    places = {folder: place for place, folder in enumerate(first)}
    items.sort(key=lambda item: places.get(item.path.parent.name, len(first)))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Let no collection of garbage look at 13,000 tests and what they import: that takes 0.4 seconds."""
    gc.disable()
    found = yield
    gc.collect()
    gc.freeze()
    gc.enable()
    return found


@pytest.fixture(autouse=True)
def undeclared() -> Iterator[None]:
    """Forget what studies outside the package declare in a test: the next may need a name that is free."""
    yield
    if "lookbehind.lab.declared" in sys.modules:
        from tests.lab.declared import forget

        forget()


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """Fail a test that leaves what the command line sets: another test, or a notebook, would go by it."""
    before = {name: os.environ.get(name) for name in ("MPLBACKEND", "OMP_WAIT_POLICY")}
    yield
    after = {name: os.environ.pop(name, None) for name in before}
    os.environ.update({name: value for name, value in before.items() if value is not None})
    assert after == before


@pytest.fixture(scope="session")
def forked() -> Any:
    """Processes that start fast: they fork from one that has imported all and done nothing with it."""
    context = multiprocessing.get_context("forkserver")
    late = ["torch._dynamo", "safetensors.torch", "lookbehind.checkpoint", "lookbehind.lab.workloads.images"]
    tests = ("lab.test_interrupted", "real_training.test_killed_and_resumed", "lifelong.test_lab")
    context.set_forkserver_preload([*late, *(f"tests.{name}" for name in tests)])
    process = context.Process(target=time.sleep, args=(0,))
    process.start()
    process.join()
    return context


@pytest.fixture(scope="module")
def forked_workers(forked: Any) -> Iterator[None]:
    """Let workers of the lab fork too, in tests of something else: to start one takes three seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lookbehind.lab.engines.worker.START", "forkserver")
        yield


@pytest.fixture(scope="session")
def found(tmp_path_factory: pytest.TempPathFactory, forked: Any) -> Callable[[str], tuple[Any, Any]]:
    """All cases of several processes run in one pair of them; a test looks at what both found.

    Workers share what the first of them finds.
    """
    from tests.real_training import two_processes  # takes seconds to import

    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with FileLock(folder / "two-processes.lock"):
        if not (folder / "two-processes.pickle").exists():
            (folder / "two-processes.pickle").write_bytes(pickle.dumps(two_processes.run()))
    results = pickle.loads((folder / "two-processes.pickle").read_bytes())

    def look(name: str) -> tuple[Any, Any]:
        for result in results:
            assert not isinstance(result[name], str), result[name]  # a traceback
        return results[0][name], results[1][name]

    return look
