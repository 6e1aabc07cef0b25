"""Table 4: transformers with switching minibatches, translating and fine-tuned."""

from __future__ import annotations

from lookbehind.lab.parts import Declaration, Item
from lookbehind.paper import fine_tuning, translation
from lookbehind.paper.workloads import SCALES


def _table4(scale: str) -> Declaration:
    parts = (*translation.table(scale), *fine_tuning.table(scale))
    return Declaration(parts, (*translation.notes(scale), *fine_tuning.notes(scale)))


TABLE4 = (Item("table4", "Transformers, with switching minibatches", SCALES, _table4),)
