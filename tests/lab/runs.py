"""Tiny runs on real digits, and what is compared of them."""

from __future__ import annotations

from typing import Any

from lookbehind.lab import Method, Result, Run, Workload
from lookbehind.models import MODELS, ConvNet, Model

TINY = Workload(
    dataset="digits", model="convnet", train=60, validation=20, test=20, batch=16, epochs=2, schedule="constant"
)
SAM = Method(kind="sam", perturbation="sam", rho=0.1)
RUN = Run(workload=TINY, method=SAM)


def register() -> None:
    """Add a model that the package does not have."""
    MODELS["own"] = Model(ConvNet, "for tests")  # type: ignore[index]


def numbers(result: Result | None) -> Any:
    """All that two executions of a run must have in common, to the last bit."""
    assert result is not None
    records = [record.model_dump(exclude={"seconds"}) for record in result.records]
    return result.status, result.weights, result.data, records
