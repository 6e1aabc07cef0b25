"""Run the cases of a module in one group of gloo processes."""

from __future__ import annotations

import importlib
import tempfile
import traceback
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def work(rank: int, folder: str, module: str, world: int) -> None:
    """Run all cases in one process and keep what they return, or a traceback."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    options = {"rank": rank, "world_size": world, "timeout": timedelta(seconds=60)}  # a lost partner is an error
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", **options)
    results: dict[str, Any] = {}
    for name, case in importlib.import_module(module).cases(folder).items():
        try:
            results[name] = case()
        except Exception:
            results[name] = "Traceback " + traceback.format_exc()
    torch.save(results, Path(folder) / f"rank{rank}.pt")
    dist.destroy_process_group()


def run(module: str, world: int) -> list[dict[str, Any]]:
    """Run the cases of a module in as many processes and return what each of them found."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.start_processes(
            work, (folder, module, world), world, daemon=True, start_method="forkserver"
        )
        return [torch.load(Path(folder) / f"rank{rank}.pt", weights_only=True) for rank in range(world)]
