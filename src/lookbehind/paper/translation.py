"""The half of Table 4 that translates from German to English, with switching minibatches (section 6.2)."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from lookbehind.lab.budget import at_radius, longer
from lookbehind.lab.cell import Candidate, Cell, Derived
from lookbehind.lab.metrics import best_validation_bleu, bleu_at_best_validation
from lookbehind.lab.parts import Part, Row, Table
from lookbehind.lab.translation import Translation
from lookbehind.paper.methods import named
from lookbehind.paper.published import published
from lookbehind.paper.rows import of_the_paper, written
from lookbehind.paper.transformers import Task, variants
from lookbehind.paper.workloads import RULES, SCALES, Rule

GRID = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)  # {0.005, 0.01, 0.02, …, 0.5, 1.0, 2.0}
IWSLT = Translation(dataset="iwslt14", epochs=50)
PHRASES = Translation(
    dataset="trans-de-en",
    train=1850,
    validation=250,
    test=300,
    shortest=3,
    longest=8,
    frequent=1500,
    pieces=1500,
    layers=1,
    width=96,
    feedforward=128,
    heads=2,
    dropout=0.1,
    epochs=12,
    tokens=256,
    lr=6e-3,
    warmup=100,
    beam=2,
)
SENTENCES = Translation(
    dataset="sentences",
    train=200,
    validation=40,
    test=40,
    pieces=150,
    layers=1,
    width=32,
    feedforward=64,
    heads=2,
    dropout=0.1,
    epochs=2,
    tokens=256,
    lr=1e-2,
    warmup=10,
    beam=2,
)


@cache
def task(scale: str) -> Task:
    """Return the column of a scale.

    Raises:
        ValueError: if there is no such scale.

    """
    if scale == "paper":
        return Task("IWSLT'14 DE-EN, Transformer", IWSLT, GRID, GRID)
    if scale == "cpu":
        return Task("German-English phrases, Transformer of 2 layers", PHRASES, (0.2,), (0.5,))
    if scale == "smoke":
        return Task("Sentences of a small grammar, Transformer of 2 layers", SENTENCES, (0.05,), (0.2,), seeds=(0, 1))
    raise ValueError(f"scale is {scale!r}; allowed are {', '.join(SCALES)}")


def _cell(scale: str, candidates: tuple[Candidate, ...], method: str) -> Cell:
    known = published(4, "IWSLT14-DE-EN", "Transformer", method, "test_bleu") if scale == "paper" else None
    return Cell(candidates, bleu_at_best_validation(), best_validation_bleu(), known)


def _rows(scale: str) -> tuple[Row, ...]:
    column = task(scale)
    rows = [Row("Adam", (_cell(scale, column.plain, "Adam"),), "SAM")]
    for rule in RULES:
        for method, settings in variants(rule).items():
            candidates = column.candidates(rule, **settings)
            rows.append(Row(written(method), (_cell(scale, candidates, method),), rule.upper()))
    return tuple(rows)


@cache
def table(scale: str) -> tuple[Part, ...]:
    """Return this half of Table 4, and what stands beside it.

    Args:
        scale: "smoke", "cpu" or "paper".

    Returns:
        The table; the paper's own, where data and model are not the paper's; and for SAM and ASAM the rivals at an
        equal number of gradients, with a control.

    """
    ours = Table("Table 4: test BLEU of translation, minibatches switching", (task(scale).title,), _rows(scale))
    parts: list[Part] = [ours]
    if scale != "paper":
        parts.append(replace(of_the_paper(4, "test_bleu"), title="Table 4 of the paper: translation"))
    return (*parts, *(_equal_budget(ours, rule) for rule in RULES))


def _equal_budget(table: Table, rule: Rule) -> Table:
    """Return the rivals at the gradients of Lookbehind, and SAM at radius k·ρ.

    The control at rate α·k·η is left out: with switching minibatches Lookbehind goes α times as far as SAM, not α·k.
    """
    reference, single = table.row(named("Lookbehind", rule)), named("SAM", rule)
    (ours,) = reference.cells
    assert isinstance(ours, Cell)
    ours = replace(ours, published=None)
    rows = [Row(reference.label, (ours,), "equal budget")]
    for label in ("Adam", single, f"{reference.label}, adaptive α"):
        (theirs,) = table.row(label).cells
        assert isinstance(theirs, Cell)
        cell = Derived((ours, replace(theirs, published=None)), longer, ours.metric)
        rows.append(Row(f"{label}, equal budget", (cell,), "equal budget"))
    rows.append(Row(f"{single} at radius k·ρ", (Derived((ours,), at_radius, ours.metric),), "controls", ranked=False))
    caption = (
        f"Rivals spend the gradient evaluations of {reference.label}; the control has its epochs. Beside them: paired "
        f"difference to {reference.label} and its 95 % interval, for all rivals together."
    )
    title = f"Translation, equal budget and control: {reference.label}"
    return Table(title, table.columns, tuple(rows), against=reference.label, caption=caption)


def notes(scale: str) -> tuple[str, ...]:
    """Return what was decided, and what the paper leaves unsaid."""
    always = (
        "Translation: k = 2, α = 0.8 or adaptive. Each inner step has a minibatch of its own, and the learning rate "
        "counts inner steps; Lookbehind then costs what SAM costs, and Adam at equal budget is trained for twice the "
        "epochs. Dropout draws new masks in each pass.",
        "ρ and epoch are chosen by validation BLEU, and test BLEU is reported. BLEU is of lowercased Moses tokens.",
        "ASAM has η = 0, and scales every weight, biases and norms too.",
    )
    if scale == "paper":
        return (
            *always,
            "The recipe is fairseq's for IWSLT'14, since the paper replicates Kwon et al., 2021. How many epochs is "
            "not said: here 50. The paper copies Adam, SAM and ASAM from Kwon et al.; here all are trained.",
            "{0.005, 0.01, 0.02, …, 0.5, 1, 2} is read as steps of 1, 2, 5.",
            "Pieces are sentencepiece's, so dictionaries and the number of parameters differ a little from fairseq's.",
        )
    if scale == "smoke":
        return (*always, "The smoke scale translates sentences that a small grammar makes.")
    return (
        *always,
        "The phrases are those of 3 to 8 words, all among the 1500 most frequent of their language, of the dictionary "
        "trans-de-en; no phrase of either language is in two parts. Many are idioms: BLEU stays low.",
        "One ρ for each rule, chosen for SAM and ASAM on a seed that is not reported.",
    )
