"""Write the tables of pages that quote stored results; `TABLES` names the pages.

pip install -e ".[lab]"
python docs/tables.py      seconds; reads docs/results, docs/pictures and benchmarks/results
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from math import exp, log
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from lookbehind.compare import METHODS
from lookbehind.lab.statistics import paired

FOLDER = Path(__file__).resolve().parent
CPU = FOLDER / "results" / "cpu"
MEASURED = FOLDER / "results" / "measure" / "measurements.json"
COMPARED = FOLDER / "results" / "compare" / "compare.json"
TRADE_OFF = FOLDER / "pictures" / "digits.json"
FULL = FOLDER.parent / "benchmarks" / "results" / "full_fine_tuning.csv"
MINILM = ("Domain tags, MiniLM", "Domain tags, MiniLM by adapters")
DIGITS = "Digits, 40 % noise, conv net"
PHRASES = "German-English phrases, Transformer of 2 layers"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table of Markdown."""
    heads = list(heads)
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads), *rows))


def read(name: str) -> dict[tuple[str, str], dict[str, str]]:
    """Return the cells of a stored table, by row and column."""
    with (CPU / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return {(cell["row"], cell["column"]): cell for cell in csv.DictReader(file)}


def rows_of(cells: dict[tuple[str, str], Any]) -> list[str]:
    return list(dict.fromkeys(row for row, _ in cells))


def value(cell: dict[str, str] | None, digits: int = 1) -> str:
    """Return a mean with its standard deviation."""
    return f"{float(cell['mean']):.{digits}f} ± {float(cell['std']):.{digits}f}" if cell and cell["mean"] else ""


def difference(cell: dict[str, str], digits: int = 1) -> str:
    """Return a difference with its interval, the other way round: how far the first row of the table is ahead."""
    ahead, low, high = (-float(cell[name]) for name in ("difference", "high", "low"))
    return f"{_signed(ahead, digits)} [{_signed(low, digits)}, {_signed(high, digits)}]"


def _signed(number: float, digits: int) -> str:
    text = f"{number:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text[1:]


def minilm() -> str:
    """Return accuracies of Table 4's fine-tuning, with both ways to choose the epoch."""
    chosen, last = read("table4-6"), read("table4-7")
    chosen |= {key: cell for name in ("table4-9", "table4-10") for key, cell in read(name).items() if key not in chosen}
    shown = [row for row in rows_of(chosen) if "equal budget" not in row or row.startswith("AdamW")]
    heads = ["", *(f"{place}, {when}" for place in ("upper layer", "adapters") for when in ("chosen", "last"))]
    return table(heads, ([row, *(value(of.get((row, c))) for c in MINILM for of in (chosen, last))] for row in shown))


def full_fine_tuning() -> str:
    """Return what `python -m benchmarks.full_fine_tuning` has stored."""
    with FULL.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    rows = []
    for name in dict.fromkeys(line["row"] for line in lines):
        found = [[float(line[when]) for line in lines if line["row"] == name] for when in ("chosen", "last")]
        rows.append([name, *(f"{mean(of):.1f} ± {stdev(of):.1f}" for of in found)])
    return table(["", "chosen", "last"], rows)


def lifelong() -> str:
    """Return Table 2 with the cost of a run."""
    cells, costs = read("table2-1"), read("table2-3")
    streams = {"digits": "Digits, 5 tasks", "Fashion-MNIST": "Fashion-MNIST, 5 tasks"}
    rows = []
    for row in rows_of(cells):
        numbers = [
            value(cells[row, f"{s}: {m} (%)"]) for s in streams.values() for m in ("average accuracy", "forgetting")
        ]
        cost = float(costs[row, "Digits, 5 tasks: gradient evaluations"]["mean"])
        rows.append([row, *numbers, f"{cost:,.0f}"])
    heads = ["", *(f"{name}: {m}" for name in streams for m in ("accuracy", "forgetting")), "gradients"]
    return table(heads, rows)


def bleu() -> str:
    """Return test BLEU of Table 4's translation."""
    cells = {key: cell for name in ("table4-4", "table4-3", "table4-1") for key, cell in read(name).items()}
    shown = [
        *rows_of(read("table4-1")),
        "SAM at radius k·ρ",
        "ASAM at radius k·ρ",
        "Adam, equal budget",
    ]
    return table(["", "test BLEU"], ([row, value(cells[row, PHRASES])] for row in shown))


def table_1() -> str:
    """Return the accuracies on the digits of Table 1, by method and perturbation."""
    cells = read("table1-1")
    names = {"the method alone": "", "Multistep": "Multistep-", "Lookahead": "Lookahead-", "Lookbehind": "Lookbehind-"}
    rows = [
        [name, *(value(cells[before + rule, DIGITS]) for rule in ("SAM", "ASAM"))] for name, before in names.items()
    ]
    plain = [[name, value(cells[name, DIGITS]), ""] for name in ("SGD", "Lookahead-SGD")]
    return table(["", "SAM's perturbation", "ASAM's perturbation"], [*rows, *plain])


def equal_cost() -> str:
    """Return by how much Lookbehind-SAM is ahead of each rival at equal cost, on the digits."""
    cells = read("table1-4")
    rivals = [row for row in rows_of(cells) if cells[row, DIGITS]["difference"]]
    return table(["rival", "Lookbehind-SAM ahead by"], ([row, difference(cells[row, DIGITS], 2)] for row in rivals))


ROWS: dict[str, Callable[[dict[str, Any]], float]] = {
    "training loss": lambda r: r["sharpness"]["loss"],
    "sharpness over minibatches of 125, r = 0.2": lambda r: r["sharpness"]["values"][3],
    "the same in ASAM's norm, r = 1": lambda r: r["relative sharpness"]["values"][3],
    "largest eigenvalue": lambda r: r["eigenvalues"]["values"][0],
    "trace": lambda r: r["trace"]["trace"],
    "accuracy %": lambda r: r["noise"]["means"][0],
    "… with noisy weights, σ = 0.2": lambda r: r["noise"]["means"][2],
    "… with noisy weights, σ = 0.4": lambda r: r["noise"]["means"][4],
    "… with 4-bit weights, per tensor": lambda r: r["quantisation"]["per_tensor"][3],
    "… with 4-bit weights, per channel": lambda r: r["quantisation"]["per_channel"][3],
    "… with 3-bit weights, per channel": lambda r: r["quantisation"]["per_channel"][4],
}


def measured() -> str:
    """Return what docs/pictures/measurements.py has measured."""
    seeds = json.loads(MEASURED.read_text(encoding="utf-8")).values()
    methods = ("SGD", "SAM", "Lookbehind-SAM")
    rows = []
    for name, pick in ROWS.items():
        found = [[pick(seed[method]) for seed in seeds] for method in methods]
        rows.append([name, *(f"{_plain(mean(of), 3)} ± {_plain(stdev(of), 2)}" for of in found)])
    return table(["", *methods], rows)


def _plain(number: float, digits: int) -> str:
    """Return a number with so many significant digits, and no exponent."""
    text = f"{number:.{digits}g}"
    return f"{float(text):,.0f}" if "e" in text else text


def numbers(labels: str, method: str, name: str) -> list[float]:
    """Return a number of a method in `lookbehind compare`, one for each seed. Sharpness is at r = 0.2."""
    runs = json.loads(COMPARED.read_text(encoding="utf-8"))["runs"]
    of = [run["result"] for run in runs if (run["run"]["labels"], run["run"]["method"]) == (labels, method)]
    return [one[name][1] if name == "sharpness" else one[name] for one in of]


def compare(labels: str) -> str:
    """Return a table of `lookbehind compare`."""
    columns = {"test_accuracy": 2, "noisy_accuracy": 2, "train_loss": 3, "sharpness": 3}
    budget = max(numbers(labels, "lookbehind", "gradients"))
    rows = []
    for method, entry in METHODS.items():
        found = {name: numbers(labels, method, name) for name in columns}
        cells = [f"{mean(of):.{columns[name]}f} ± {stdev(of):.{columns[name]}f}" for name, of in found.items()]
        cost = max(numbers(labels, method, "gradients"))
        label = f"*control:* {entry.label}" if entry.control else entry.label
        rows.append([label, *cells, f"{cost}{' =' if abs(cost - budget) <= 0.02 * budget else ''}"])
    heads = ["", "test accuracy %", "with noisy weights %", "training loss", "sharpness", "gradients"]
    return table(heads, rows)


def from_sam(method: str) -> str:
    """Return the difference in test accuracy from SAM with noisy labels, paired over seeds."""
    return str(paired(*(numbers("noisy", one, "test_accuracy") for one in (method, "sam"))))


def differences() -> str:
    """Return the difference of each method from SAM."""
    return table(["", "− SAM"], ([entry.label, from_sam(name)] for name, entry in METHODS.items() if name != "sam"))


def compared(*methods: str) -> str:
    """Return the rows of some methods in `lookbehind compare` with noisy labels."""
    rows = []
    for method in methods:
        found = [numbers("noisy", method, name) for name in ("test_accuracy", "noisy_accuracy")]
        cells = [f"{mean(of):.2f} ± {stdev(of):.2f}" for of in found]
        rows.append([METHODS[method].label, *cells, "" if method == "sam" else from_sam(method)])
    return table(["40 % label noise, 4 seeds", "test accuracy %", "with noisy weights %", "accuracy − SAM's"], rows)


def at_loss(method: str, loss: float) -> float:
    """Return a method's sharpness at a training loss, on the line of docs/pictures/loss-sharpness.svg."""
    known = json.loads(TRADE_OFF.read_text(encoding="utf-8"))
    of = [[known[f"{method} rho={rho} seed={seed}"] for seed in (0, 1)] for rho in (0.05, 0.1, 0.2, 0.4)]
    points = [[mean(run[name] for run in pair) for name in ("loss", "sharpness")] for pair in of]
    [(x, y, u, v)] = [(*a, *b) for a, b in pairwise(points) if a[0] <= loss < b[0]]
    return exp(log(y) + (log(v) - log(y)) * (loss - x) / (u - x))


def trade_off() -> str:
    """Return sharpness at a training loss of 1.1."""
    costs = {"SAM": 2, "SAM at rate α·k·η": 2, "Lookbehind-SAM": 3}
    rows = ([name, f"{at_loss(name, 1.1):.2f}", f"{cost}"] for name, cost in costs.items())
    return table(["at a training loss of 1.1", "sharpness", "gradients a step"], rows)


def switching() -> str:
    """Return Table 4 of Lookbehind-SAM and SAM, at equal cost."""
    tasks = {
        "fine-tuning with noisy labels, upper layer, %": ("table4-9", MINILM[0]),
        "the same by adapters, %": ("table4-9", MINILM[1]),
        "translation, BLEU": ("table4-3", PHRASES),
    }
    rows = []
    for name, (file, column) in tasks.items():
        cells = read(file)
        own, sam = cells["Lookbehind-SAM", column], cells["SAM, equal budget", column]
        rows.append([name, value(own), value(sam), difference(sam)])
    return table(["", "Lookbehind-SAM", "SAM", "difference"], rows)


TABLES: dict[str, dict[str, Callable[[], str]]] = {
    "fine-tuning": {"MiniLM": minilm, "full fine-tuning": full_fine_tuning},
    "lifelong": {"Table 2": lifelong},
    "transformers": {"BLEU": bleu},
    "results": {"Table 1": table_1, "equal cost": equal_cost},
    "measure": {"worked example": measured},
    "which-method": {"noisy labels": partial(compare, "noisy")},
    "comparison": {"clean labels": partial(compare, "clean"), "differences": differences},
    "algorithms/sam": {"compared": partial(compared, "sgd", "sam", "sam-radius")},
    "algorithms/multistep-sam": {"compared": partial(compared, "sam", "multistep", "lookbehind", "sam-radius")},
    "algorithms/lookahead": {"compared": partial(compared, "sam", "lookahead")},
    "algorithms/lookbehind": {
        "compared": partial(compared, "sam", "sam-longer", "sam-radius", "lookbehind"),
        "trade-off": trade_off,
    },
    "algorithms/adaptive-alpha": {"compared": partial(compared, "lookbehind", "lookbehind-adaptive")},
    "algorithms/switching-minibatches": {"Table 4": switching},
}


def pages() -> dict[Path, str]:
    """Return what the script writes, by file."""
    written = {}
    for page, tables in TABLES.items():
        text = (FOLDER / f"{page}.md").read_text(encoding="utf-8")
        for name, make in tables.items():
            begin, end = f"<!-- {name}: written by docs/tables.py -->", f"<!-- end of {name} -->"
            assert begin in text, f"{page}.md has no place for {name}"
            block = f'{begin}\n\n<div class="numbers" markdown>\n\n{make()}\n\n</div>\n\n{end}'
            text = re.sub(f"{begin}.*?{end}", lambda _, b=block: b, text, flags=re.DOTALL)
        written[FOLDER / f"{page}.md"] = text
    return written


if __name__ == "__main__":
    for file, text in pages().items():
        file.write_text(text, encoding="utf-8")
