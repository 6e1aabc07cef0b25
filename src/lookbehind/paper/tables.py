"""Tables 1, 3, 5, 8 and 9."""

from __future__ import annotations

from lookbehind.lab.metrics import best_epoch
from lookbehind.lab.parts import Declaration, Item, Part, Row, Table
from lookbehind.paper import notes
from lookbehind.paper.methods import named
from lookbehind.paper.rows import (
    LOOKAHEAD_SGD,
    SGD,
    Entry,
    accuracy_table,
    adaptive,
    averaging,
    columns,
    lookahead,
    lookbehind,
    multistep,
    of_the_paper,
    rows,
    single,
)
from lookbehind.paper.workloads import RULES, SCALES, asam_setup, pairs


def _table1(scale: str) -> Declaration:
    entries = [SGD, LOOKAHEAD_SGD]
    for rule in RULES:
        entries += [single(rule), multistep(rule), lookahead(rule), lookbehind(rule)]
    table = Table("Table 1: test accuracy (%) of the methods", columns(scale), rows(scale, 1, entries))
    return Declaration(accuracy_table(scale, 1, table), (notes.SELECTED, notes.BATCH_NORM, notes.DECAY, notes.SMALL))


def _table3(scale: str) -> Declaration:
    entries = [entry for rule in RULES for entry in (lookbehind(rule), adaptive(rule))]
    title = "Table 3: test accuracy (%) of Lookbehind with static and adaptive α"
    parts = accuracy_table(scale, 3, Table(title, columns(scale), rows(scale, 3, entries)), _plain(scale))
    best_k = "Which k the adaptive rows have is not said: the best one is taken."
    return Declaration(parts, (best_k, notes.ADAPTIVE, notes.SELECTED, notes.BATCH_NORM, notes.DECAY, notes.SMALL))


def _plain(scale: str) -> tuple[Row, ...]:
    """Return SGD, SAM and ASAM, which Tables 3 and 8 do not have, as rivals at equal budget."""
    return rows(scale, 1, [SGD, *map(single, RULES)])


def _table5(scale: str) -> Declaration:
    entries = [single(rule) for rule in RULES]
    epochs = ", ".join(f"{pair.workload.epochs} ({pair.title})" for pair in pairs(scale))
    table = Table(
        "Table 5: epoch of the best test accuracy",
        columns(scale),
        rows(scale, 5, entries, metric=best_epoch(), ddof=0, kind="best_epoch"),
        caption=f"Epochs of training: {epochs}.",
    )
    said = (
        "The setting is that of Table 1. Of epochs with equal accuracy the first counts.",
        "Standard deviations are of the population (ddof = 0), as the paper's numbers can only be.",
        "The paper's WRN-28-10 with ASAM, 179.50 ± 4.50, cannot be of three seeds, and fits two.",
    )
    parts: tuple[Part, ...] = (table,) if scale == "paper" else (table, of_the_paper(5, "best_epoch"))
    return Declaration(parts, (*said, notes.BATCH_NORM, notes.DECAY, notes.SMALL))


def _table8(scale: str) -> Declaration:
    entries = [
        entry for rule in RULES for entry in (multistep(rule), averaging(rule), lookbehind(rule), adaptive(rule))
    ]
    title = "Table 8: test accuracy (%) of Multistep, with averaged gradients too, and Lookbehind"
    parts = accuracy_table(scale, 8, Table(title, columns(scale), rows(scale, 8, entries)), _plain(scale))
    mean = "The mean is over the gradients at the k perturbed points, without that at the slow weights."
    return Declaration(parts, (mean, notes.ADAPTIVE, notes.SELECTED, notes.BATCH_NORM, notes.DECAY, notes.SMALL))


def _table9(scale: str) -> Declaration:
    pair = asam_setup(scale)
    entries: list[Entry] = [SGD]
    for rule in RULES:
        # α is adaptive, though the paper's rows here do not say so.
        entries += [single(rule), adaptive(rule)._replace(name=named("Lookbehind", rule))]
    kind = "test_accuracy_pct"
    title = "Table 9: test accuracy (%) in the setup of Kwon et al., 2021"
    table = Table(title, (pair.title,), rows(scale, 9, entries, (pair,), kind=kind))
    said = (
        "Appendix A.9 says WRN-28-2, Table 9 says WRN-28-10; the numbers are those of WRN-28-10.",
        "The paper copies SGD, SAM and ASAM from Kwon et al., 2021. Here all five rows are trained, for equally many "
        "epochs with five seeds (smoke: two).",
        "Cosine learning rates, label smoothing 0.1 and weight decay 5e-4, as in the script of Kwon et al.",
        "Lookbehind has k = 2 and adaptive α. Its control at a larger rate has k·η, the most that α* can give.",
        "At scale cpu the net is ResNet-8 and the images are those of Fashion-MNIST.",
    )
    return Declaration(accuracy_table(scale, 9, table, kind=kind), (*said, notes.ADAPTIVE, notes.BATCH_NORM))


TABLES = (
    Item("table1", "Generalisation of the methods", SCALES, _table1),
    Item("table3", "Lookbehind with static and adaptive α", SCALES, _table3),
    Item("table5", "Epochs after which SAM and ASAM were best", SCALES, _table5),
    Item("table8", "Multistep with averaged gradients", SCALES, _table8),
    Item("table9", "The setup of Kwon et al., 2021", SCALES, _table9),
)
