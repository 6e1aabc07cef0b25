"""Parameter groups of a model with a new head: a learning rate and a radius of its own."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer


def parameter_groups(model: nn.Module, head: nn.Module, *, lr: float, head_rate: float = 1.0) -> list[dict[str, Any]]:
    """Return two groups for an optimizer: what is trained of the body, and the head.

    Args:
        model: the model.
        head: a part of it.
        lr: learning rate of the body.
        head_rate: times ``lr`` is the head's. Default 1.

    Returns:
        Groups named "body" and "head"; frozen parameters are in neither.

    Raises:
        ValueError: if nothing of the head, or nothing of the body, is trained.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        >>> [group["lr"] for group in parameter_groups(model, model[1], lr=0.1, head_rate=10)]
        [0.1, 1.0]

    """
    heads = {id(p) for p in head.parameters()}
    body = [p for p in model.parameters() if p.requires_grad and id(p) not in heads]
    top = [p for p in head.parameters() if p.requires_grad]
    for name, part in (("body", body), ("head", top)):
        if not part:
            raise ValueError(f"all parameters of the {name} are frozen; unfreeze what shall be trained")
    return [{"params": body, "name": "body", "lr": lr}, {"params": top, "name": "head", "lr": lr * head_rate}]


def set_radii(optimizer: Optimizer, head_radius: float) -> None:
    """Give the head's group a radius of its own: ``head_radius`` times ρ. An optimizer without ρ stays as it is."""
    for group in optimizer.param_groups:
        if group["name"] == "head" and "rho" in group:
            group["rho"] *= head_radius
