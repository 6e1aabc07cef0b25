"""Average accuracy, forgetting and backward transfer of a matrix of accuracies."""

from __future__ import annotations

from collections.abc import Sequence

Matrix = Sequence[Sequence[float]]  # a[t][τ]: accuracy on task τ after task t has been learnt


def average_accuracy(matrix: Matrix) -> float:
    r"""Return :math:`\frac{1}{t} \sum_{\tau=1}^{t} a_{t,\tau}`, t being the last task learnt.

    Appendix A.6 of Mordido et al., 2024; Lopez-Paz and Ranzato, 2017.

    Args:
        matrix: a row for each task that was learnt, with the accuracy on every task after it. Entries for tasks to come
            are allowed and not looked at.

    Raises:
        ValueError: if the matrix is empty or a row is too short.

    Example:
        >>> average_accuracy([[90.0, 50.0], [70.0, 80.0]])
        75.0

    """
    t = len(_checked(matrix, 1))
    return sum(matrix[-1][:t]) / t


def forgetting(matrix: Matrix, *, once_learnt: bool = False) -> float:
    r"""Return :math:`\frac{1}{t-1} \sum_{\tau=1}^{t-1} \max_{t' \in \{1, \dots, t-1\}} (a_{t',\tau} - a_{t,\tau})`.

    Appendix A.6 of Mordido et al., 2024; Chaudhry et al., 2018. The maximum includes rows before the task was learnt,
    as printed and as in the published code of Chaudhry et al. It can be negative.

    Args:
        matrix: as for ``average_accuracy``.
        once_learnt: take the maximum over t' ≥ τ only. Default False.

    Raises:
        ValueError: if fewer than two tasks were learnt, or a row is too short.

    Example:
        >>> forgetting([[90.0, 50.0], [70.0, 80.0]])
        20.0

    """
    t = len(_checked(matrix, 2))
    best = [max(matrix[i][tau] for i in range(tau if once_learnt else 0, t - 1)) for tau in range(t - 1)]
    return sum(b - final for b, final in zip(best, matrix[-1], strict=False)) / (t - 1)


def backward_transfer(matrix: Matrix) -> float:
    r"""Return :math:`\frac{1}{t} \sum_{\tau=1}^{t} (a_{t,\tau} - a_{\tau,\tau})`, "BTI" of Gupta et al. (2020).

    The last task counts with 0. Lopez-Paz and Ranzato, 2017, divide by t − 1.

    Args:
        matrix: as for ``average_accuracy``.

    Raises:
        ValueError: if the matrix is empty or a row is too short.

    Example:
        >>> backward_transfer([[90.0, 50.0], [70.0, 80.0]])
        -10.0

    """
    t = len(_checked(matrix, 1))
    return sum(matrix[-1][tau] - matrix[tau][tau] for tau in range(t)) / t


def _checked(matrix: Matrix, fewest: int) -> Matrix:
    t = len(matrix)
    if t < fewest:
        raise ValueError(f"the matrix has {t} rows; at least {fewest} are needed, one for each task learnt")
    for i, row in enumerate(matrix):
        if len(row) < t:
            raise ValueError(f"row {i} of the matrix has {len(row)} entries; one for each of the {t} tasks is needed")
    return matrix
