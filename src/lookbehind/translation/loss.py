"""The training loss of a translation model."""

from __future__ import annotations

from torch import Tensor, nn


class SmoothedCrossEntropy(nn.Module):
    r"""Cross-entropy with a target that gives 1 − ε to the right token and ε / (V − 1) to each other one.

    .. math:: -(1 - \varepsilon) \log p_y - \frac{\varepsilon}{V - 1} \sum_{v \ne y} \log p_v

    Mean over the tokens that are not padding. This is fairseq's label smoothing; that of ``torch`` spreads ε over all V
    tokens, the right one too, and equals this one at ε V / (V − 1).

    Args:
        epsilon: ε in [0, ½]. Default 0.1.
        padding: the target that does not count. Default 0.

    Example:
        >>> import torch
        >>> logits, targets = torch.zeros(2, 3, 5), torch.tensor([[1, 2, 3], [4, 0, 0]])
        >>> round(SmoothedCrossEntropy()(logits, targets).item(), 4)  # log 5
        1.6094

    """

    def __init__(self, epsilon: float = 0.1, padding: int = 0) -> None:
        super().__init__()
        if not 0 <= epsilon <= 0.5:
            raise ValueError(f"epsilon is {epsilon}; a number in [0, 0.5] is needed")
        self.epsilon, self.padding = epsilon, padding

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of logits (sentences, tokens, dictionary) and targets (sentences, tokens)."""
        size = logits.shape[-1]
        return nn.functional.cross_entropy(
            logits.flatten(0, -2),
            targets.flatten(),
            ignore_index=self.padding,
            label_smoothing=self.epsilon * size / (size - 1),
        )
