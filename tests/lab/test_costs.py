"""The stored costs of the studies of this package are those of its declarations.

``python -m tests.lab.test_costs`` writes them anew.
"""

from __future__ import annotations

import pytest

from lookbehind import league, paper
from lookbehind.lab.costs import Cost, computed, known, written
from lookbehind.lab.study import Study
from lookbehind.lab.work import FLOPS, forward_flops

STUDIES = {"paper": paper.study, "league": league.study}


@pytest.mark.parametrize("name", STUDIES)
def test_stored_costs_are_true(name: str) -> None:
    assert known(STUDIES[name]) == computed(STUDIES[name])


def test_without_a_file_they_are_computed() -> None:
    study = Study("mine")
    study.items["table5"] = paper.ITEMS["table5"]
    costs = known(study)
    assert costs["table5", "smoke"] == costs["all", "smoke"] == known(paper.study)["table5", "smoke"]
    assert isinstance(costs["table5", "cpu"], Cost)


@pytest.mark.parametrize("net", sorted(FLOPS))
def test_stored_operations_are_what_torch_counts(
    net: tuple[str, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = FLOPS[net]
    monkeypatch.delitem(FLOPS, net)
    assert forward_flops.__wrapped__(*net) == stored


if __name__ == "__main__":
    for study in STUDIES.values():
        assert study.costs is not None
        study.costs.write_text(written(computed(study)))
