"""Settings that compete, as candidates: one for each combination of values."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from itertools import product
from typing import Any

from lookbehind.lab import declared
from lookbehind.lab.cell import Candidate
from lookbehind.lab.method import FIELDS, NEEDS, Method
from lookbehind.lab.run import Run
from lookbehind.methods import METHODS

SYMBOLS = {"rho": "ρ", "alpha": "α", "lr": "η", "eta": "η"}
OWN = (*FIELDS, "eta", "divided", "rate", "unperturbed_statistics", "switching")  # fields of every method


def grid(
    workload: Any, kind: str, seeds: Sequence[int], *, budget: float | None = None, **settings: Any
) -> tuple[Candidate, ...]:
    """Return a candidate for each combination of settings, with a run for each seed.

    Args:
        workload: what is trained.
        kind: the method: "base", one of the paper's, a name of ``lookbehind.METHODS``, or a study's own.
        seeds: one run for each.
        budget: sample gradients in units of the workload's own training, in which the base spends one on each example
            of each epoch; the number of epochs is fitted to it. Default: the workload's epochs, whatever they cost.
        **settings: values of the method's options and of the workload's fields. A tuple or list is a choice, and its
            values stand in the label.

    Returns:
        The candidates, the last setting varying fastest.

    Raises:
        ValueError: if a value is not allowed, or no option or field has this name.

    Example:
        >>> from lookbehind.lab import Workload, grid
        >>> digits = Workload(dataset="digits", model="convnet", epochs=10)
        >>> [c.label for c in grid(digits, "gsam", range(2), rho=(0.1, 0.2), alpha=0.4)]
        ['ρ=0.1', 'ρ=0.2']
        >>> [one] = grid(digits, "gsam", range(2), budget=1)
        >>> one.runs[0].workload.epochs
        5

    """
    choices = [name for name, value in settings.items() if isinstance(value, (tuple, list, range))]
    options = _options(kind)
    for name in settings:
        if name not in options and name not in OWN and name not in type(workload).model_fields:
            raise ValueError(f"{kind} has no option {name!r}, nor has the workload; it has {', '.join(options)}")
    found = []
    for values in product(*(value if name in choices else (value,) for name, value in settings.items())):
        setting = dict(zip(settings, values, strict=True))
        of_workload = {name: v for name, v in setting.items() if name not in options and name not in OWN}
        of_method = {name: v for name, v in setting.items() if name not in of_workload}
        if kind in NEEDS:
            method = Method(kind=kind, **of_method)
        else:
            fields = {name: of_method.pop(name) for name in list(of_method) if name not in options}
            method = Method(kind=kind, options=tuple(sorted(of_method.items())), **fields)
        # Validated anew, since a copy is not.
        trained = type(workload).model_validate({**dict(workload), **of_workload}) if of_workload else workload
        if budget is not None:
            trained = trained.for_epochs(max(1, round(trained.epochs * budget / method.gradients)))
        label = ", ".join(f"{SYMBOLS.get(name, name)}={_written(setting[name])}" for name in choices)
        runs = tuple(Run(workload=trained, method=method, seed=seed) for seed in seeds)
        found.append(Candidate(label, runs))
    return tuple(found)


def _options(kind: str) -> tuple[str, ...]:
    if kind in NEEDS:
        return tuple(name for name in FIELDS if name in NEEDS[kind] or kind == "lookahead")
    if kind in METHODS:
        return (*METHODS[kind].options, "perturbation", "minibatches")
    if kind in declared.METHODS:
        return (*list(inspect.signature(declared.METHODS[kind].build).parameters)[1:], "minibatches")
    return ()


def _written(value: object) -> str:
    return f"{value:g}" if isinstance(value, float | int) and not isinstance(value, bool) else str(value)
