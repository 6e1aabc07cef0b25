"""The example learns, and says so."""

from __future__ import annotations

import re

from tests.examples.running import run


def test_lifelong_digits() -> None:
    _, printed = run("lifelong_digits")
    lines = printed.strip().splitlines()
    names = ["SGD", "ER + SGD", "ER + Lookbehind-SAM", "Lookahead-C-MAML", "Lookbehind-C-MAML"]
    assert [line[:20].strip() for line in lines] == names
    for line in lines:
        *after, forgotten = map(float, re.findall(r"-?\d+\.\d", line[20:]))
        assert len(after) == 5
        assert all(80 < accuracy <= 100 for accuracy in after)
        assert -20 < forgotten < 35
