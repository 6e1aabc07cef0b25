"""Write the pages of the family from the records of the methods, and the tables of docs/family.md.

pip install -e .
python docs/methods.py      a second; writes docs/algorithms/*.md and docs/family.md
"""

from __future__ import annotations

import csv
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lookbehind import METHODS, Every, FollowsRate, LargeGradient
from lookbehind.methods import Record

FOLDER = Path(__file__).resolve().parent
WRITTEN_BY_HAND = {
    "sam": "sam",
    "asam": "asam",
    "multistep_sam": "multistep-sam",
    "lookahead": "lookahead",
    "lookbehind": "lookbehind",
}
MARK = "<!-- written by docs/methods.py from the records in lookbehind.METHODS -->"
LOOKAHEAD = "on its base: `Lookahead(SAM(base, ...))`"


def page_of(name: str) -> str:
    return f"{WRITTEN_BY_HAND.get(name, name.replace('_', '-'))}.md"


def base() -> torch.optim.Optimizer:
    return torch.optim.SGD(torch.nn.Linear(2, 1).parameters(), lr=0.1, momentum=0.9)


# The columns of the table of combinations: a title, and the options that a cell tries.
COMBINATIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "`Every`, `Window`, `Sometimes`": lambda: {"when": Every(2)},
    "`LargeGradient`": lambda: {"when": LargeGradient()},
    "`radius=FollowsRate`": lambda: {"radius": FollowsRate(lr_max=0.1)},
    '`perturbation="asam"` or a rule': lambda: {"perturbation": "asam"},
    "`model=`, BatchNorm": lambda: {"model": torch.nn.Linear(2, 1)},
    "`sync_ascent=False`": lambda: {"sync_ascent": False},
}


def cell(record: Record, options: dict[str, Any]) -> str:
    """Return what a method says to an option: that it takes it, or why not."""
    if record.kind.__name__ == "Lookahead":
        return LOOKAHEAD
    if record.kind.__name__ == "ASAM" and "perturbation" in options:
        return "it is one"
    if "model" in options and not record.kind.returns_clean_loss:
        return "no clean pass: statistics follow the perturbed one; `update_bn` takes them anew"
    if "sync_ascent" in options and record.kind.__name__ == "FractionSAM":
        return '✓, not with `descend="rest"`'
    if "sync_ascent" in options:
        return "no: " + record.kind.refuses["sync_ascent"] if "sync_ascent" in record.kind.refuses else "✓"
    try:
        record.build(base(), **options)
    except (TypeError, ValueError) as error:
        return "no: " + str(error).rsplit(": ", 1)[1]
    return "✓"


def amount(gradients: float) -> str:
    return f"{gradients:.2f}".rstrip("0").rstrip(".")


def gradients(record: Record) -> str:
    """Return the gradients of a step, averaged over many, at the defaults."""
    defaults = {name: option.default for name, option in record.options.items()}
    return amount(record.gradients(1000, **defaults) / 1000)


def paper(record: Record) -> str:
    return f"[{record.paper}]({record.address})" if record.address else record.paper


def records_table() -> str:
    lines = [
        "| method | descends with | gradients a step | copies | state in checkpoints | source |",
        "|---|---|---|---|---|---|",
    ]
    for name, r in METHODS.items():
        link = f"[{r.title}](algorithms/{page_of(name)})"
        lines.append(f"| {link} | {r.descends} | {gradients(r)} | {r.copies} | {r.state} | {paper(r)} |")
    return "\n".join(lines)


def combinations_table() -> str:
    lines = [f"| | {' | '.join(COMBINATIONS)} |", f"|---|{'---|' * len(COMBINATIONS)}"]
    for record in METHODS.values():
        cells = (cell(record, options()) for options in COMBINATIONS.values())
        lines.append(f"| {record.title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def parity_table() -> str:
    """Return what `python -m benchmarks.parity METHOD FOLDER --keep` has found."""
    with (FOLDER.parent / "benchmarks" / "results" / "parity.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = ["| method | largest difference | with weight decay 0.01 | what remains |", "|---|---|---|---|"]
    for row in rows:
        title = METHODS[row["method"]].title
        lines.append(f"| {title} | {row['difference']} | {row['with decay']} | {row['remains']} |")
    return "\n".join(lines)


def family() -> str:
    """Return docs/family.md with its tables written anew."""
    text = (FOLDER / "family.md").read_text(encoding="utf-8")
    tables = {"records": records_table(), "combinations": combinations_table(), "parity": parity_table()}
    for title, table in tables.items():
        begin, end = f"<!-- {title}: written by docs/methods.py -->", f"<!-- end of {title} -->"
        text = re.sub(f"{begin}.*?{end}", lambda _, t=table, b=begin, e=end: f"{b}\n\n{t}\n\n{e}", text, flags=re.S)
    return text


def method_page(name: str) -> str:
    """Return the page of a method of the family."""
    record = METHODS[name]
    kind = record.kind
    summary = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")
    options = "\n".join(f"| `{o}` | `{option.default!r}` | {option.source} |" for o, option in record.options.items())
    loss = "at the unperturbed weights" if kind.returns_clean_loss else "at perturbed weights"
    combined = "\n".join(f"| {title} | {cell(record, make())} |" for title, make in COMBINATIONS.items())
    return f"""# {record.title}

{MARK}

{summary} Source: {paper(record)}.

![Steps of {record.title} on a loss of two weights](../pictures/{page_of(name)[:-3]}.svg)

Real steps on a long valley, and SAM's beside them. Where two minibatches take turns, their losses are drawn in two
colours.

::: {kind.__module__}.{kind.__name__}
    options:
      members: false
      show_bases: false
      show_root_heading: false
      show_root_toc_entry: false
      show_docstring_parameters: false
      show_docstring_raises: false

All arguments: [`{kind.__name__}`](../api/optimizers.md#lookbehind.{kind.__name__}).

## The code

::: {kind.__module__}.{kind.__name__}.update
    options:
      show_source: true
      show_root_heading: false
      show_root_toc_entry: false
      show_docstring_description: false
      show_docstring_parameters: false
      show_docstring_returns: false
      show_docstring_examples: false

## Options

| option | default | source |
|---|---|---|
{options}

## Cost

Gradients a step, at the defaults: {gradients(record)}. Copies of the weights, beyond the base's state: {record.copies}.
A checkpoint holds: {record.state}. `step` returns the loss {loss}.

## Combines with

| option | |
|---|---|
{combined}

## Evidence

For it: {record.evidence}.

Against it: {record.against}.
"""


def pages() -> dict[Path, str]:
    """Return what the script writes, by file."""
    written = {FOLDER / "family.md": family()}
    for name in METHODS:
        if name not in WRITTEN_BY_HAND:
            written[FOLDER / "algorithms" / page_of(name)] = method_page(name)
    return written


if __name__ == "__main__":
    for file, text in pages().items():
        file.write_text(text, encoding="utf-8")
