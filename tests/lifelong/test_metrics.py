"""Metrics against matrices worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookbehind.lifelong import average_accuracy, backward_transfer, forgetting

# After task 1, 2, 3, 4 (rows) on task 1, 2, 3, 4.
MATRIX = [
    [90.0, 22.0, 31.0, 20.0],
    [70.0, 80.0, 88.0, 25.0],
    [75.0, 60.0, 85.0, 10.0],
    [60.0, 65.0, 70.0, 95.0],
]


def test_by_hand() -> None:
    assert average_accuracy(MATRIX) == (60 + 65 + 70 + 95) / 4
    # The best before the last row: 90 of task 1, 80 of task 2, and 88 of task 3, which was not yet learnt then.
    assert forgetting(MATRIX) == ((90 - 60) + (80 - 65) + (88 - 70)) / 3
    assert forgetting(MATRIX, once_learnt=True) == ((90 - 60) + (80 - 65) + (85 - 70)) / 3
    assert backward_transfer(MATRIX) == ((60 - 90) + (65 - 80) + (70 - 85) + 0) / 4


def test_within_a_stream_tasks_to_come_do_not_count() -> None:
    assert average_accuracy(MATRIX[:2]) == (70 + 80) / 2
    assert forgetting(MATRIX[:2]) == 90 - 70
    assert backward_transfer(MATRIX[:2]) == (70 - 90) / 2
    assert average_accuracy(MATRIX[:1]) == 90
    assert backward_transfer(MATRIX[:1]) == 0


def test_it_can_be_negative() -> None:
    assert forgetting([[50.0, 0.0], [60.0, 70.0]]) == -10


@given(
    st.integers(2, 6).flatmap(
        lambda t: st.lists(st.lists(st.floats(0, 100), min_size=t, max_size=t), min_size=t, max_size=t)
    )
)
def test_what_holds_for_every_matrix(matrix: list[list[float]]) -> None:
    t = len(matrix)
    assert 0 <= average_accuracy(matrix) <= 100 + 1e-9
    assert forgetting(matrix) >= forgetting(matrix, once_learnt=True) - 1e-9
    assert forgetting(matrix, once_learnt=True) >= -backward_transfer(matrix) * t / (t - 1) - 1e-9


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="the matrix has 1 rows; at least 2 are needed"):
        forgetting(MATRIX[:1])
    for metric in (average_accuracy, backward_transfer):
        with pytest.raises(ValueError, match="the matrix has 0 rows"):
            metric([])
    with pytest.raises(ValueError, match="row 1 of the matrix has 1 entries; one for each of the 2 tasks"):
        forgetting([[1.0, 2.0], [3.0]])
