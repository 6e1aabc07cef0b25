"""The table of faults fits the package as it is. That the suite catches them takes long: python -m tests.mutations."""

from __future__ import annotations

import pytest

from tests.mutations import MUTATIONS, ROOT, SUITES, Mutation, place


@pytest.mark.parametrize("mutant", MUTATIONS, ids=lambda mutant: mutant.name)
def test_each_can_be_made(mutant: Mutation) -> None:
    for name, old, new in mutant.edits:
        assert (ROOT / place(name)).read_text().count(old) == 1, f"{old!r} stands in {name} not once"
        assert old != new
    assert all((ROOT / suite).exists() for suite in (*SUITES, *mutant.suites))
