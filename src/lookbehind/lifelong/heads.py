"""One head for each task: the slice of the logits that belongs to it (multi-head masking by task identity)."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy


def own_head(logits: Tensor, tasks: Tensor, ways: int) -> Tensor:
    """Return of each row of logits the slice of its own task: logits[i, tasks[i]·ways : (tasks[i] + 1)·ways].

    Args:
        logits: shape (n, tasks × ways).
        tasks: the identity of each row's task, from 0, shape (n,).
        ways: classes a task.

    Returns:
        Shape (n, ways).

    Raises:
        ValueError: if the logits cannot be divided into heads of ``ways``.

    Example:
        >>> import torch
        >>> own_head(torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]), torch.tensor([1, 0]), ways=2)
        tensor([[3., 4.],
                [5., 6.]])

    """
    if logits.ndim != 2 or ways < 1 or logits.shape[1] % ways:
        raise ValueError(f"logits have shape {tuple(logits.shape)}; (n, tasks × ways) with ways = {ways} is needed")
    heads = logits.unflatten(1, (-1, ways))
    own: Tensor = heads.gather(1, tasks.view(-1, 1, 1).expand(-1, 1, ways)).squeeze(1)
    return own


def multihead_loss(logits: Tensor, labels: Tensor, ways: int) -> Tensor:
    """Return the mean cross-entropy, each image's over the classes of its own task.

    Labels are those of a ``TaskStream``: task t has the classes t·ways to (t + 1)·ways − 1, so a label tells its task.

    Args:
        logits: shape (n, tasks × ways).
        labels: int64, shape (n,).
        ways: classes a task.

    """
    return cross_entropy(own_head(logits, labels // ways, ways), labels % ways)
