"""A training run that is killed at random moments, and resumed, ends bit for bit where an undisturbed one ends."""

from __future__ import annotations

import os
import pickle
import random
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lookbehind import checkpoint
from tests.conformance.rows import ROWS, Row, every_row

STEPS = 25
KILLS = 5  # of each method


def train(name: str, folder: Path, started: Any) -> None:
    """Train with batch norm, dropout, AdamW, scheduler, scaler and shuffled data; save after each step; or go on."""
    row = next(r for r in ROWS if r.name == name)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    started.set()
    net = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.Linear(16, 2))
    inputs, targets = torch.randn(40, 4), torch.randn(40, 2)
    options: dict[str, Any] = {"model": net} if row.own_model else {}
    optimizer: Any = row.make(torch.optim.AdamW(net.parameters(), lr=0.01), **options)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**5, growth_interval=7)
    order, step = torch.Generator().manual_seed(1), 0

    last = folder / "last.pt"
    if last.exists():
        state = checkpoint.load(last)
        net.load_state_dict(state["net"])
        scheduler.load_state_dict(state["scheduler"])
        optimizer.load_state_dict(state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        order.set_state(state["order"])
        torch.set_rng_state(state["random"])
        step = state["step"]
    while step < STEPS:
        index = torch.randperm(40, generator=order)[:10]

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(net(inputs[index]), targets[index])  # noqa: B023 -- used in this pass only
            scaler.scale(loss).backward()
            return loss

        optimizer.step(closure, grad_scaler=scaler)
        scaler.update()
        scheduler.step()
        step += 1
        checkpoint.save(
            last,
            {
                "net": net.state_dict(),
                "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
                "scaler": scaler.state_dict(),
                "order": order.get_state(),
                "random": torch.get_rng_state(),
                "step": step,
            },
        )


def _flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for key in sorted(value, key=str) for leaf in _flat(value[key])]
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in _flat(item)]
    return [value.tolist() if isinstance(value, Tensor) else value]


@every_row
def test_sigkill_at_random_moments(row: Row, tmp_path: Path, forked: Any) -> None:
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    duration = _live(forked, row.name, undisturbed)
    moments = random.Random(row.name)
    for _ in range(KILLS):
        _live(forked, row.name, disturbed, until=moments.uniform(0, 1.5) * duration / KILLS)
    _live(forked, row.name, disturbed)
    one, other = checkpoint.load(undisturbed / "last.pt"), checkpoint.load(disturbed / "last.pt")
    assert _flat(one) == _flat(other)


def _live(forked: Any, name: str, folder: Path, until: float | None = None) -> float:
    """Run a training process to its end, or kill it so many seconds after its start; return how long it lived."""
    folder.mkdir(exist_ok=True)
    process = forked.Process(target=train, args=(name, folder, started := forked.Event()))
    process.start()
    assert started.wait(30)
    start = time.monotonic()
    if until is not None:
        time.sleep(until)
        process.kill()
    process.join()
    if until is None:
        assert process.exitcode == 0
    elif process.exitcode == 0:  # it was faster than the killer: begin again, so that each kill meets a run
        (folder / "last.pt").unlink()
    return time.monotonic() - start


# --- checkpoint files --------------------------------------------------------------------------------------------


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"weights": torch.arange(1000.0), "step": 3})
    return path


def test_a_checkpoint_comes_back(good: Path) -> None:
    state = checkpoint.load(good)
    assert torch.equal(state["weights"], torch.arange(1000.0))
    assert state["step"] == 3
    assert [p.name for p in good.parent.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.999])
def test_a_truncated_checkpoint_is_a_clear_error(good: Path, kept: float) -> None:
    content = good.read_bytes()
    good.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(checkpoint.CheckpointError, match=r"last\.pt is truncated, or no file of torch\.save"):
        checkpoint.load(good)


def test_a_flipped_bit_in_a_tensor_is_noticed(good: Path) -> None:
    """torch.load by itself gives back wrong numbers."""
    content = bytearray(good.read_bytes())
    where = bytes(content).index(torch.arange(1000.0).numpy().tobytes()) + 2000
    content[where] ^= 1
    good.write_bytes(content)
    assert not torch.equal(torch.load(good, weights_only=True)["weights"], torch.arange(1000.0))
    with pytest.raises(checkpoint.CheckpointError, match="checksum"):
        checkpoint.load(good)


class Hostile:
    def __reduce__(self) -> Any:
        return (os.system, ("touch hostile",))


def test_a_foreign_file_is_a_clear_error_and_is_not_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"x": Hostile()}, "hostile.pt")
    with pytest.raises(checkpoint.CheckpointError, match="something else than tensors"):
        checkpoint.load("hostile.pt")
    Path("pickle.pt").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(checkpoint.CheckpointError, match=r"no file of torch\.save"):
        checkpoint.load("pickle.pt")
    with zipfile.ZipFile("other.pt", "w") as archive:
        archive.writestr("note.txt", "mine")
    with pytest.raises(checkpoint.CheckpointError):
        checkpoint.load("other.pt")
    torch.save(torch.ones(2), "tensor.pt")
    with pytest.raises(checkpoint.CheckpointError, match="Tensor instead of a dict"):
        checkpoint.load("tensor.pt")
    with pytest.raises(FileNotFoundError):
        checkpoint.load("missing.pt")
    assert not Path("hostile").exists()


def test_a_save_that_fails_leaves_the_previous_checkpoint(good: Path, monkeypatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(good, {"step": 4})
    monkeypatch.undo()
    assert checkpoint.load(good)["step"] == 3

    def full_while_writing(*_: object) -> None:
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0")  # noqa: B904 -- as torch.save does on a full disk

    monkeypatch.setattr(torch, "save", full_while_writing)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(good, {"step": 4})
    monkeypatch.undo()
    assert checkpoint.load(good)["step"] == 3
    assert [p.name for p in good.parent.iterdir()] == ["last.pt"]
    with pytest.raises(checkpoint.CheckpointError, match="'step' is of type function"):
        checkpoint.save(good, {"step": lambda: 4})
    assert checkpoint.load(good)["step"] == 3
