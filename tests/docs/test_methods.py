"""The pages of the family are what the script writes, and each cell of the table of combinations is tried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lookbehind import METHODS
from lookbehind.methods import Record
from tests.docs.pages import DOCS, blocks, script

SCRIPT = script("methods")


def test_an_unknown_name_is_answered_by_the_nearest() -> None:
    with pytest.raises(KeyError, match="method 'samm' is unknown; did you mean sam\\? Allowed are sam, asam, "):
        METHODS["samm"]
    assert METHODS.get("samm") is None


def test_the_pages_are_up_to_date() -> None:
    for file, text in SCRIPT.pages().items():
        assert file.read_text(encoding="utf-8") == text, f"{file}: run python docs/methods.py"


def test_each_method_has_a_page() -> None:
    for name in METHODS:
        assert (DOCS / "algorithms" / SCRIPT.page_of(name)).exists()


HEADINGS = ["Equations", "Use", "Options", "Cost", "Combines with", "Evidence", "Code"]


@pytest.mark.parametrize("page", sorted((DOCS / "algorithms").glob("*.md")), ids=lambda page: page.stem)
def test_each_page_has_the_template(page: Path) -> None:
    """The sections in order, a picture before them, and under Use one block of Python, which test_pages.py runs."""
    text = page.read_text(encoding="utf-8")
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == HEADINGS
    assert "](../pictures/" in text.split("\n## ")[0]
    [block] = [block for block in blocks(page) if block.language == "python"]
    assert block.runs
    assert "optimizer.step(" in block.code
    assert block.code in text.split("\n## Use\n")[1].split("\n## ")[0]
    assert max(map(len, block.code.splitlines())) <= 84
    assert "`src/lookbehind/optim/" in text.split("\n## Code\n")[1]


@pytest.mark.parametrize("record", METHODS.values(), ids=METHODS)
def test_each_page_of_a_record_is_marked(record: Record) -> None:
    """What a record gives is in its page: a page that is written by hand has all marks."""
    name = next(name for name, other in METHODS.items() if other is record)
    text = (DOCS / "algorithms" / SCRIPT.page_of(name)).read_text(encoding="utf-8")
    assert all(part in text for part in SCRIPT.parts(name).values())


@pytest.mark.parametrize("record", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("title", [title for title in SCRIPT.COMBINATIONS if "sync" not in title])
def test_each_combination(record: Record, title: str) -> None:
    """✓ takes steps. The others are refused by the sentence of the table; ranks have tests of their own."""
    options: dict[str, Any] = SCRIPT.COMBINATIONS[title]()
    said = SCRIPT.cell(record, options)
    if said == SCRIPT.LOOKAHEAD or said == "it is one":
        with pytest.raises(TypeError):
            record.build(
                SCRIPT.base(), **options, **({"perturbation": "sam"} if said == "it is one" else {}), when=None
            )
        return
    if said.startswith("no: "):
        with pytest.raises(ValueError) as refused:
            record.build(SCRIPT.base(), **options)
        assert str(refused.value).endswith(said[4:])
        return
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = record.build(torch.optim.SGD([weight], lr=0.1, momentum=0.9), **options)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (weight**2).sum()
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure if record.closures == 1 else [closure] * record.closures)
    assert weight.isfinite().all()
    assert weight.norm() < 5**0.5


@pytest.mark.parametrize("record", METHODS.values(), ids=METHODS)
def test_records_tell_the_defaults(record: Record) -> None:
    """The options of the constructor and their defaults are those of the record."""
    import inspect

    parameters = inspect.signature(record.kind.__init__).parameters
    for name, option in record.options.items():
        assert parameters[name].default == option.default, name
    own = set(parameters) - {"self", "base", "options", "perturbation", "named_parameters"}
    assert own == set(record.options)
