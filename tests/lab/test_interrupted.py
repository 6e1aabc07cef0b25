"""A run that is killed at random moments ends bit for bit where an undisturbed one ends."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lookbehind.lab import Method, NoiseSettings, Run, Store, execute
from lookbehind.models import MODELS, ConvNet, Model
from tests.lab.runs import TINY, numbers

KILLS = 20


def with_dropout(channels: int, classes: int) -> nn.Module:
    """Dropout draws from torch's random state, which has to be that of the interruption."""
    net = ConvNet(channels, classes)
    net.classifier = nn.Sequential(nn.Dropout(0.3), nn.Linear(64, classes))  # type: ignore[assignment]
    return net


RUN = Run(
    workload=TINY.model_copy(
        update={"model": "dropout", "epochs": 24, "schedule": "steps", "milestones": (6, 15), "noise": 0.2}
    ),
    method=Method(kind="lookahead", perturbation="sam", rho=0.1, k=7, alpha=0.5),  # cycles that cross epochs
    later=Method(kind="lookbehind", perturbation="asam", rho=0.5, k=2, alpha="adaptive"),
    switch=12,
)
NOISE = NoiseSettings(sigmas=(0.3,), draws=2)


def train(root: Path, save_every: float, started: Any) -> None:
    MODELS["dropout"] = Model(with_dropout, "for this test")  # type: ignore[index]
    torch.set_num_threads(1)
    started.set()

    def refuse(sentence: str) -> None:
        os._exit(77)  # nothing is damaged by being killed

    execute(RUN, Store(root, say=refuse), [NOISE], save_every=save_every)


@pytest.fixture(scope="module")
def undisturbed(forked: Any, tmp_path_factory) -> Store:
    root = tmp_path_factory.mktemp("undisturbed")
    start = time.monotonic()
    process = start_one(forked, root, save_every=0.0)
    process.join()
    assert process.exitcode == 0
    store = Store(root)
    store.duration = time.monotonic() - start  # type: ignore[attr-defined]
    return store


def start_one(forked: Any, root: Path, save_every: float) -> Any:
    process = forked.Process(target=train, args=(root, save_every, started := forked.Event()))
    process.start()
    assert started.wait(60)
    return process


def test_sigkill_at_random_moments(undisturbed: Store, forked: Any, tmp_path: Path) -> None:
    store, moments = Store(tmp_path), random.Random(0)
    met, began = 0, 0
    while met < KILLS:
        began += 1
        process = start_one(forked, tmp_path, save_every=0.0)
        time.sleep(moments.uniform(0, 3.0) * undisturbed.duration / KILLS)  # type: ignore[attr-defined]
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        if store.complete(RUN, [NOISE]):  # it was faster than the killer: the next kills meet another training
            assert numbers(store.result(RUN)) == numbers(undisturbed.result(RUN))
            for path in store.folder(RUN).iterdir():
                path.unlink()
        else:
            met += 1
    process = start_one(forked, tmp_path, save_every=0.0)
    process.join()
    assert process.exitcode == 0
    assert numbers(store.result(RUN)) == numbers(undisturbed.result(RUN))
    assert store.measured(RUN, NOISE) == undisturbed.measured(RUN, NOISE)
    names = {"run.json", "log.jsonl", "result.json", "weights.safetensors", f"{NOISE.address}.json", ".lock"}
    assert {p.name for p in store.folder(RUN).iterdir()} == names


def test_sigterm_saves_at_the_end_of_the_epoch(undisturbed: Store, forked: Any, tmp_path: Path) -> None:
    store, log, done = Store(tmp_path), Store(tmp_path).folder(RUN) / "log.jsonl", 0
    for _ in range(3):
        process = start_one(forked, tmp_path, save_every=1e9)  # but for the signal there is no checkpoint
        deadline = time.monotonic() + 60
        while not log.exists() or len(log.read_text().splitlines()) < done + 2:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGTERM)
        process.join()
        assert process.exitcode == 128 + signal.SIGTERM
        records = store.checkpoint(RUN)["records"]  # type: ignore[index]
        assert len(records) == len(log.read_text().splitlines())
        assert len(records) >= done + 2
        done = len(records)
    process = start_one(forked, tmp_path, save_every=1e9)
    process.join()
    assert numbers(store.result(RUN)) == numbers(undisturbed.result(RUN))
