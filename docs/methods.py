"""Write the pages of the methods from their records, and the tables of docs/family.md.

A page of the family is written whole. In a page that is written by hand, the parts between marks are written.

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


NET = torch.nn.Linear(2, 1)


def base() -> torch.optim.Optimizer:
    return torch.optim.SGD(NET.parameters(), lr=0.1, momentum=0.9)


# The columns of the table of combinations: a title, and the options that a cell tries.
COMBINATIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "`Every`, `Window`, `Sometimes`": lambda: {"when": Every(2)},
    "`LargeGradient`": lambda: {"when": LargeGradient()},
    "`radius=FollowsRate`": lambda: {"radius": FollowsRate(lr_max=0.1)},
    '`perturbation="asam"` or a rule': lambda: {"perturbation": "asam"},
    "`model=`, BatchNorm": lambda: {"model": NET},
    "`sync_ascent=False`": lambda: {"sync_ascent": False},
}


def cell(record: Record, options: dict[str, Any]) -> str:
    """Return what a method says to an option: that it takes it, or why not."""
    if record.kind.__name__ == "Lookahead":
        return LOOKAHEAD
    if record.kind.__name__ == "ASAM" and "perturbation" in options:
        return "it is one"
    if "model" in options and not record.kind.returns_clean_loss:
        return "no clean pass: statistics follow the perturbed pass; `update_bn` renews them"
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
        title = METHODS[row["method"].partition("-")[0]].title
        lines.append(f"| {title} | {row['difference']} | {row['with decay']} | {row['remains']} |")
    return "\n".join(['<div class="numbers" markdown>\n', *lines, "\n</div>"])


def filled(text: str, parts: dict[str, str]) -> str:
    """Return a page with the parts between its marks written anew."""
    for title, part in parts.items():
        begin, end = f"<!-- {title}: written by docs/methods.py -->", f"<!-- end of {title} -->"
        text = re.sub(f"{begin}.*?{end}", lambda _, t=part, b=begin, e=end: f"{b}\n\n{t}\n\n{e}", text, flags=re.S)
    return text


def family() -> str:
    """Return docs/family.md with its tables written anew."""
    text = (FOLDER / "family.md").read_text(encoding="utf-8")
    return filled(text, {"records": records_table(), "combinations": combinations_table(), "parity": parity_table()})


# What the code of `## Use` adds to the record's numbers: names to import, arguments, lines at the end.
IMPORTS = {"s2_sam": ", FollowsRate"}
ARGUMENTS = {"s2_sam": ", radius=FollowsRate(lr_max=0.1)"}
LAST_LINES = {
    "lookahead": "with optimizer.slow_weights():\n    model(inputs)    # evaluate with the slow weights",
    "xsam": "mse = torch.nn.functional.mse_loss\n"
    "optimizer.search(closure, lambda: mse(model(inputs), targets))    # α, once an epoch",
}
ONE_CLOSURE = """def closure():
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(inputs), targets)
    loss.backward()
    return loss

loss = optimizer.step(closure)"""
CLOSURES = """def closure_of(x, y):
    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        return loss
    return closure

"""
SEVERAL = """micro_batches = zip(inputs.split(2), targets.split(2))
loss = optimizer.step([closure_of(x, y) for x, y in micro_batches])"""
STEPS = {
    "fraction_sam": "part = closure_of(inputs[:2], targets[:2])    # a quarter of the minibatch\n"
    "loss = optimizer.step([part, closure_of(inputs, targets)])",
}


def use(name: str) -> str:
    """Return the code of `## Use`: a whole step, with the record's defaults."""
    record = METHODS[name]
    kind = record.kind.__name__
    numbers = {o: option.default for o, option in record.options.items() if type(option.default) in (int, float)}
    arguments = ", ".join(f"{o}={value!r}" for o, value in numbers.items()) + ARGUMENTS.get(name, "")
    step = ONE_CLOSURE if record.closures == 1 else CLOSURES + STEPS.get(name, SEVERAL)
    last = f"\n{LAST_LINES[name]}" if name in LAST_LINES else ""
    return f"""```python
import torch
from lookbehind import {kind}{IMPORTS.get(name, "")}

model = torch.nn.Linear(4, 1)
inputs, targets = torch.randn(8, 4), torch.randn(8, 1)
base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
optimizer = {kind}(base, {arguments})

{step}{last}
```

All arguments: [`{kind}`](../api/optimizers.md#lookbehind.{kind})."""


def options_table(record: Record) -> str:
    lines = ["| option | default | source |", "|---|---|---|"]
    lines += [f"| `{o}` | `{option.default!r}` | {option.source} |" for o, option in record.options.items()]
    return "\n".join(lines)


def cost_table(record: Record) -> str:
    loss = "at the unperturbed weights" if record.kind.returns_clean_loss else "at perturbed weights"
    return f"""| quantity | value |
|---|---|
| gradients a step, at the defaults | {gradients(record)} |
| copies of the weights between steps, beyond the base's state | {record.copies} |
| further copies at the peak inside a step | {amount(record.peak)}; on the CPU {amount(record.peak_on_host)} |
| a checkpoint holds | {record.state} |
| `step` returns the loss | {loss} |"""


def combines_table(record: Record) -> str:
    rows = [f"| {title} | {cell(record, make())} |" for title, make in COMBINATIONS.items()]
    return "\n".join(["| option | combines |", "|---|---|", *rows])


def _row(line: str) -> list[str]:
    return [text.strip().strip("*") for text in line.strip("|").split(" | ")]


def league(record: Record) -> str:
    """Return the method's test accuracies in docs/league.md, beside those of SAM and SGD."""
    tables = []
    for board in (FOLDER / "league.md").read_text(encoding="utf-8").split("\n## ")[1:]:
        if "\nTest accuracy (%)" not in board:
            continue
        lines = board.split("\nTest accuracy (%)")[1].split("\n\n")[2].split("\n")
        budgets = [i for i, head in enumerate(_row(lines[0])) if re.fullmatch(r"[\d.]+ ×", head)]
        rows = [_row(line) for line in lines[2:]]
        names = (record.title, f"{record.title},", f"{record.title} around")
        own = [row for row in rows if row[0] == names[0] or row[0].startswith(names[1:])]
        others = [row for row in rows if row[0] in ("SAM", "SGD", "AdamW") and row not in own]
        heads = [board.split("\n")[0], *(_row(lines[0])[i] for i in budgets)]
        shown = [[row[0], *(row[i] for i in budgets)] for row in own + others]
        tables.append("\n".join(f"| {' | '.join(row)} |" for row in [heads, ["---"] * len(heads), *shown]))
    intro = "Test accuracy (%) in [the league](../league.md), by gradients:"
    return "\n\n".join([intro, '<div class="numbers" markdown>', *tables, "</div>"])


def parts(name: str) -> dict[str, str]:
    """Return the parts of a method's page that its record gives, by title."""
    record = METHODS[name]
    return {
        "use": use(name),
        "options": options_table(record),
        "cost": cost_table(record),
        "combines": combines_table(record),
        "evidence": evidence(record),
        "league": league(record),
    }


def evidence(record: Record) -> str:
    return f"**For it.** {sentence(record.evidence)}\n\n**Against it.** {sentence(record.against)}"


def page_by_hand(name: str) -> str:
    """Return a page that is written by hand, with the parts between its marks written anew."""
    return filled((FOLDER / "algorithms" / page_of(name)).read_text(encoding="utf-8"), parts(name))


def sentence(text: str) -> str:
    """Return text that begins with a capital and ends with a full stop."""
    return text[0].upper() + text[1:] + "."


def method_page(name: str) -> str:
    """Return the page of a method of the family."""
    record = METHODS[name]
    kind = record.kind
    summary = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")
    part = parts(name)
    return f"""# {record.title}

{MARK}

{summary} Source: {paper(record)}.

![Steps of {record.title} on a loss of two weights](../pictures/{page_of(name)[:-3]}.svg)

Real steps beside SAM's. Each minibatch has its colour.

## Equations

::: {kind.__module__}.{kind.__name__}
    options:
      members: false
      show_bases: false
      show_root_heading: false
      show_root_toc_entry: false
      show_docstring_parameters: false
      show_docstring_raises: false
      show_docstring_examples: false

## Use

{part["use"]}

## Options

{part["options"]}

## Cost

{part["cost"]}

## Combines with

{part["combines"]}

## Evidence

{part["evidence"]}

### What we measured

{part["league"]}

## Code

`src/{kind.__module__.replace(".", "/")}.py`, one step:

::: {kind.__module__}.{kind.__name__}.update
    options:
      show_source: true
      show_root_heading: false
      show_root_toc_entry: false
      show_docstring_description: false
      show_docstring_parameters: false
      show_docstring_returns: false
      show_docstring_examples: false
"""


def pages() -> dict[Path, str]:
    """Return what the script writes, by file."""
    written = {FOLDER / "family.md": family()}
    for name in METHODS:
        page = page_by_hand(name) if name in WRITTEN_BY_HAND else method_page(name)
        written[FOLDER / "algorithms" / page_of(name)] = page
    return written


if __name__ == "__main__":
    for file, text in pages().items():
        file.write_text(text, encoding="utf-8")
