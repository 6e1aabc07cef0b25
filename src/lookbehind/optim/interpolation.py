"""How the slow weights follow the fast ones: fixed α, or α* from the alignment of the fast steps (eq. 6-7)."""

from __future__ import annotations

from torch import Tensor


def aligned_alpha(dot: Tensor, square_1: Tensor, square_k: Tensor) -> Tensor:
    """Return α* = (cos θ + 1) / 2 (eq. 6), with cos θ = ⟨d₁, dₖ⟩ / (‖d₁‖ ‖dₖ‖) (eq. 7).

    d₁ = φ_{t,1} − φ_t is the first fast step and dₖ = φ_{t,k} − φ_t the whole. (Eq. 7 calls the cosine θ.) If one of
    them is zero there is no angle: cos θ = 0 and α* = ½, as in the published code.

    Args:
        dot: ⟨d₁, dₖ⟩.
        square_1: ‖d₁‖².
        square_k: ‖dₖ‖².

    Returns:
        α* in [0, 1], of the shape of ``dot``.

    Example:
        >>> import torch
        >>> aligned_alpha(torch.tensor(1.0), torch.tensor(1.0), torch.tensor(4.0))
        tensor(0.7500)

    """
    length = square_1.sqrt() * square_k.sqrt()
    cosine = (dot / length).masked_fill(length == 0, 0.0).clamp(-1.0, 1.0)
    return (cosine + 1) / 2
