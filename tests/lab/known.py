"""Results that a test makes up, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lookbehind.lab.cell import Candidate
from lookbehind.lab.method import Method
from lookbehind.lab.result import Record, Result
from lookbehind.lab.run import Measurement, Run, Workload

DIGITS = Workload(dataset="digits", model="convnet", epochs=4)
SGD = Method(kind="base")


def result(
    test: Sequence[float],
    validation: Sequence[float] | None = None,
    alpha: Sequence[float] | None = None,
    status: str = "finished",
) -> Result:
    records = tuple(
        Record(
            epoch=i + 1,
            loss=1 / (i + 1),
            accuracy=50.0,
            gradient_norm=1.0,
            alpha=None if alpha is None else alpha[i],
            lr=0.1,
            gradients=i,
            seconds=1.0,
            validation=None if validation is None else validation[i],
            test=accuracy,
        )
        for i, accuracy in enumerate(test)
    )
    return Result(status=status, records=records, weights="", data={}, environments=())


class Known:
    """Results by run; measurements by run and settings."""

    def __init__(self) -> None:
        self.results: dict[Run, Result] = {}
        self.measurements: dict[tuple[Run, Measurement], dict[str, Any]] = {}
        self.failures: dict[Run, str] = {}
        self.asked = 0

    def result(self, run: Run) -> Result | None:
        self.asked += 1
        return self.results.get(run)

    def measured(self, run: Run, measurement: Measurement) -> dict[str, Any] | None:
        return self.measurements.get((run, measurement))

    def failure(self, run: Run) -> str | None:
        return self.failures.get(run)

    def put(self, candidate: Candidate, *accuracies: float) -> Candidate:
        """Finish a candidate's runs with these best test accuracies, one for each seed."""
        for run, accuracy in zip(candidate.runs, accuracies, strict=False):
            self.results[run] = result([accuracy - 1, accuracy])
        return candidate


def sam(rho: float, seeds: int = 3, workload: Workload = DIGITS) -> Candidate:
    method = Method(kind="sam", perturbation="sam", rho=rho)
    return Candidate(f"ρ={rho:g}", tuple(Run(workload=workload, method=method, seed=s) for s in range(seeds)))


def sgd(seeds: int = 3, workload: Workload = DIGITS) -> Candidate:
    return Candidate("", tuple(Run(workload=workload, method=SGD, seed=s) for s in range(seeds)))


def lookbehind(k: int, alpha: float | str = 0.5, rho: float = 0.1, seeds: int = 3) -> Candidate:
    method = Method(kind="lookbehind", perturbation="sam", rho=rho, k=k, alpha=alpha)
    return Candidate(f"k={k}, α={alpha}", tuple(Run(workload=DIGITS, method=method, seed=s) for s in range(seeds)))
