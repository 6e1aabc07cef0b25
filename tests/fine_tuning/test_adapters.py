"""Low-rank adapters against their equation, and what moves in training."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from lookbehind import Lookbehind
from lookbehind.fine_tuning import LowRank, add_adapters, merge_adapters, parameter_groups, set_radii
from lookbehind.models import build

IMAGES, LABELS = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(6)


def adapted(seed: int = 0) -> tuple[nn.Module, nn.Module, list[nn.Parameter]]:
    """A frozen tiny ViT, and itself with adapters and a head to train."""
    torch.manual_seed(seed)
    frozen = build("vit-tiny", channels=1).eval()
    model = copy.deepcopy(frozen)
    added = add_adapters(model, ["qkv"], rank=4)
    model.head.requires_grad_(True)
    return frozen, model, added


def test_equals_its_equation() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(5, 7).double()
    layer = LowRank(linear, rank=3, scale=6.0).double()
    nn.init.normal_(layer.up)
    x = torch.randn(2, 4, 5, dtype=torch.float64)
    product = linear.weight + 6.0 / 3 * (layer.up @ layer.down)  # (W + s/r B A) x + b
    torch.testing.assert_close(layer(x), torch.einsum("mn,abn->abm", product, x) + linear.bias)


def test_begins_as_the_frozen_model() -> None:
    frozen, model, added = adapted()
    assert torch.equal(frozen(IMAGES), model(IMAGES))
    assert all((p.ndim, bool(p.any())) == (2, i % 2 == 0) for i, p in enumerate(added))  # A is drawn, B is zero
    assert sum(p.numel() for p in added) == 4 * (4 * 64 + 192 * 4)


def test_only_adapters_and_head_move() -> None:
    frozen, model, _ = adapted()
    groups = parameter_groups(model, model.head, lr=0.1)
    assert [len(group["params"]) for group in groups] == [8, 2]
    optimizer = Lookbehind(torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.1), rho=0.1, k=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(IMAGES), LABELS)
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(4)]
    assert losses[-1] < losses[0]
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    expected = {f"blocks.{i}.attn.qkv.{part}" for i in range(4) for part in ("down", "up")}
    assert moved == expected | {"head.weight", "head.bias"}
    for name, value in frozen.state_dict().items():
        if not name.startswith("head"):
            inside = name.replace("attn.qkv.", "attn.qkv.linear.")
            assert torch.equal(value, model.state_dict()[inside])


def test_merged_it_is_an_ordinary_model_that_does_the_same() -> None:
    frozen, model, added = adapted()
    for p in added:
        nn.init.normal_(p, std=0.1)
    expected = model(IMAGES)
    assert not torch.allclose(expected, frozen(IMAGES), atol=1e-3)
    merge_adapters(model)
    assert {n: v.shape for n, v in model.state_dict().items()} == {n: v.shape for n, v in frozen.state_dict().items()}
    torch.testing.assert_close(model(IMAGES), expected)


@pytest.mark.parametrize("head_radius", [0.0, 0.25, 3.0])
def test_every_group_has_a_radius_of_its_own(head_radius: float) -> None:
    """‖ε‖ of a group is its ρ times its share of the norm of the gradient."""
    _, model, _ = adapted()
    for p in model.parameters():
        if p.requires_grad and not p.any():
            nn.init.normal_(p, std=0.1)  # else the adapters' A has no gradient
    groups = parameter_groups(model, model.head, lr=0.1)
    optimizer = Lookbehind(torch.optim.SGD(groups, lr=0.1), rho=0.2, k=1)
    set_radii(optimizer, head_radius)
    assert [group["rho"] for group in optimizer.param_groups] == [0.2, 0.2 * head_radius]
    before = [[p.detach().clone() for p in group["params"]] for group in groups]
    seen: list[list[float]] = []
    gradients: list[list[float]] = []

    def norms(tensors: list[list[torch.Tensor]]) -> list[float]:
        return [sum(t.square().sum().item() for t in part) ** 0.5 for part in tensors]

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        moved = zip((g["params"] for g in groups), before, strict=True)
        seen.append(norms([[p.detach() - b for p, b in zip(*pair, strict=True)] for pair in moved]))
        loss = nn.functional.cross_entropy(model(IMAGES), LABELS)
        loss.backward()
        gradients.append(norms([[p.grad for p in group["params"]] for group in groups]))
        return loss

    optimizer.step(closure)
    body, head = gradients[0]
    total = (body**2 + head**2) ** 0.5
    assert seen[0] == [0, 0]
    assert seen[1] == pytest.approx([0.2 * body / total, 0.2 * head_radius * head / total], rel=1e-4)


def test_learning_rates_and_frozen_parts() -> None:
    _, model, _ = adapted()
    assert [g["lr"] for g in parameter_groups(model, model.head, lr=0.1, head_rate=3)] == [0.1, pytest.approx(0.3)]
    model.head.requires_grad_(False)
    with pytest.raises(ValueError, match="all parameters of the head are frozen"):
        parameter_groups(model, model.head, lr=0.1)
    plain = torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "name": "head"}], lr=0.1)
    set_radii(plain, 2.0)  # has no ρ
    assert "rho" not in plain.param_groups[0]


def test_errors() -> None:
    with pytest.raises(ValueError, match="rank is 9; a whole number from 1 to 4"):
        LowRank(nn.Linear(4, 8), rank=9)
    with pytest.raises(ValueError, match=r"layers is \('query',\); no linear layer of VisionTransformer"):
        add_adapters(build("vit-tiny"), ["query"])
