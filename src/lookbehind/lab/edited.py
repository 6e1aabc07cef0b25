"""Find methods that were edited since runs of them were trained, or that declare another cost than they have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from lookbehind.lab import declared
from lookbehind.lab.estimate import gradients
from lookbehind.lab.files import DamagedError, read_json
from lookbehind.lab.run import Run
from lookbehind.lab.store import RUN, Store


def edited(runs: Iterable[Run], store: Store) -> list[str]:
    """Return a sentence for each method and workload of which a store has runs by another source."""
    now = {(what, name): source for run in runs for what, name, source in _sources(run.model_dump(mode="json"))}
    if not now:
        return []
    before: Counter[tuple[str, str]] = Counter()
    for path in sorted((store.root / "runs").glob(f"*/{RUN}")):
        try:
            content = read_json(path) or {}
        except (DamagedError, OSError):
            continue  # it is read by nothing else either
        for what, name, source in _sources(content.get("run", {})):
            if now.get((what, name), source) != source:
                before[what, name] += 1
    return [
        f"{store.root} has {count} runs of another source of the {what} {name}: it was edited since, or is another "
        "file's. They stay there, and do not count here"
        for (what, name), count in before.items()
    ]


def misdeclared(runs: Iterable[Run], store: Store) -> list[str]:
    """Return a sentence for each method of a study whose finished runs took other gradients than it declares."""
    found = {}
    for run in runs:
        result = store.result(run) if run.method.kind in declared.METHODS and run.later is None else None
        if result is not None and result.status == "finished":
            planned, spent = gradients(run), result.gradients
            if abs(spent - planned) > 0.02 * planned:
                found[run.method.kind] = f"{spent:,} gradients where its declaration comes to {planned:,}"
    return [
        f"method {kind} took {what}: put gradients= right, or budgets are not equal" for kind, what in found.items()
    ]


def _sources(run: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for what, key in (("method", "method"), ("method", "later"), ("workload", "workload")):
        part = run.get(key) or {}
        if part.get("source"):
            name = part["kind"] if what == "method" else f"{part['dataset']}, {part['model']}"
            yield what, name, part["source"]
