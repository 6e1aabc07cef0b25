"""Tables as LaTeX, and the numbers of tables and figures as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from lookbehind.lab.cell import Value
from lookbehind.lab.parts import Heatmap, Lines, Scatter, Table
from lookbehind.lab.report import Filled, differences, ranks
from lookbehind.lab.statistics import Difference, shown

FIELDS = (
    "row",
    "column",
    "setting",
    "mean",
    "std",
    "n",
    "seeds",
    "published_mean",
    "published_std",
    "gap",
    "difference",
    "low",
    "high",
    "remark",
)
LATEX = {
    "\\": r"\textbackslash{}",
    "%": r"\%",
    "&": r"\&",
    "_": r"\_",
    "#": r"\#",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "α": r"$\alpha$",
    "η": r"$\eta$",
    "ρ": r"$\rho$",
    "σ": r"$\sigma$",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "−": "$-$",
    "—": "---",
}


def to_csv(filled: Filled) -> str:
    """Return the numbers of a table or figure, one a line.

    ``difference``, ``low`` and ``high`` are those of ``report.differences``; ``remark`` says what is missing.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    compared = differences(filled) if isinstance(filled.part, Table) else None
    for (i, j), row, column in _places(filled):
        value = filled.values[i][j]
        if value is not None:
            writer.writerow({"row": row, "column": column, **_fields(value, compared[i][j] if compared else None)})
    return text.getvalue()


def _fields(value: Value, difference: Difference | None) -> dict[str, object]:
    fields: dict[str, object] = {
        "setting": "" if value.winner is None else value.winner.label,
        "mean": value.mean,
        "std": value.std,
        "n": value.n,
        "seeds": len(value.by_seed),
        "gap": value.gap,
        "remark": value.remark,
    }
    if value.published is not None:
        fields |= {"published_mean": value.published.mean, "published_std": value.published.std}
    if difference is not None:
        fields |= {"difference": difference.mean, "low": difference.low, "high": difference.high}
    return fields


def _places(filled: Filled) -> Iterator[tuple[tuple[int, int], str, str]]:
    """Yield the place of each value in ``filled.values`` with the names of its row and column."""
    part = filled.part
    match part:
        case Table():
            names = [(row.label, part.columns) for row in part.rows]
        case Heatmap():
            heads = tuple(f"{part.x}={x:g}" for x in part.xs)
            names = [*((f"{part.y}={y:g}", heads) for y in part.ys), ("baseline", ("",))]
        case Lines():
            names = [(line.label, tuple(f"{part.x}={x:g}" for x in line.xs)) for line in part.series]
            names += [(part.baseline_label, ("",))] if part.baseline is not None else []
        case Scatter():
            names = [(point.label, (part.x, part.y)) for point in part.points]
    for i, (row, heads) in enumerate(names):
        for j, head in enumerate(heads):
            yield (i, j), row, head


def to_latex(filled: Filled) -> str:
    """Return a table for LaTeX with ``booktabs``: the best of a column in bold, the second best underlined.

    Published numbers stand in brackets behind ours, paired differences and their intervals in square brackets.

    Raises:
        TypeError: if it is no table.

    """
    part = filled.part
    if not isinstance(part, Table):
        raise TypeError(f"{part.title!r} is a figure; only tables are written as LaTeX")
    marks, compared = ranks(filled), differences(filled)
    lines = [
        f"% {part.title}",
        rf"\begin{{tabular}}{{l{'r' * len(part.columns)}}}",
        r"\toprule",
        " & ".join(["", *map(escaped, part.columns)]) + r" \\",
    ]
    group = None
    for i, row in enumerate(part.rows):
        if row.group != group:
            lines.append(r"\midrule")
            group = row.group
        written = [
            "" if value is None else _latex(value, part.digits, marks[i][j], compared[i][j])
            for j, value in enumerate(filled.values[i])
        ]
        lines.append(" & ".join([escaped(row.label), *written]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex(value: Value, digits: int, rank: int | None, difference: Difference | None) -> str:
    ours = escaped(value.text(digits))
    if value.mean is None and not value.settings and value.published is not None:  # the paper's own table
        ours = escaped(Value(mean=value.published.mean, std=value.published.std).text(digits))
    elif value.published is not None:
        ours += f" ({escaped(shown(value.published.mean, digits))})"
    ours = {1: rf"\textbf{{{ours}}}", 2: rf"\underline{{{ours}}}"}.get(rank or 0, ours)
    return ours if difference is None else f"{ours} ({escaped(difference.text(digits))})"


def escaped(text: str) -> str:
    r"""Return text as LaTeX writes it.

    Example:
        >>> print(escaped("SAM at rate α·k·η, 40 %"))
        SAM at rate $\alpha$$\cdot$k$\cdot$$\eta$, 40 \%

    """
    return "".join(LATEX.get(letter, letter) for letter in text)
