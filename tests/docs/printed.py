"""Compare what a page or a notebook shows as printed with what is printed now."""

from __future__ import annotations

import re

NUMBER = re.compile(r"\d+(?:\.\d+)?")
SHARE = 0.1  # of a number. Over 1 and 2 threads 3 % was seen.
POINTS = 1.5  # of an accuracy in %. Over 1 and 2 threads 0.5 was seen.


def numbers(line: str) -> list[float]:
    return [float(number) for number in NUMBER.findall(line)]


def differences(shown: str, printed: str) -> list[str]:
    """Return the lines that differ by more than the tolerance, or in another thing than a number."""
    ours, theirs = shown.splitlines(), printed.splitlines()
    if len(ours) != len(theirs):
        return [f"{len(ours)} lines are shown, {len(theirs)} printed: {theirs}"]
    return [f"{a!r} is shown, {b!r} printed" for a, b in zip(ours, theirs, strict=True) if not close(a, b)]


def close(a: str, b: str) -> bool:
    if NUMBER.sub("0", a) != NUMBER.sub("0", b):
        return False
    accuracy = "% right" in a
    return all(abs(x - y) <= (POINTS if accuracy else SHARE * x) for x, y in zip(numbers(a), numbers(b), strict=True))


def ahead(printed: str) -> None:
    """Assert that every model of SAM beats every one of SGD: less than half as sharp, and more often right."""
    rises = [numbers(line)[1:] for line in printed.splitlines() if "higher by" in line]
    right = [numbers(line) for line in printed.splitlines() if "% right" in line]
    (sgd, sam), (sgd_right, sam_right) = rises, right
    assert max(sam) < min(sgd) / 2
    assert min(sam_right) > max(sgd_right)
