"""Low-rank adapters against their equation, and what moves in training."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from lookbehind import Lookbehind
from lookbehind.fine_tuning import LowRank, add_adapters, merge_adapters, parameter_groups, set_radii, unmerge_adapters
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


class Tied(nn.Module):
    """Embeddings that are the head's weights too."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.embedding(x)))


class Repeated(nn.Module):
    """One layer with two names, in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.a = self.b = nn.Linear(4, 4)
        self.inner = nn.ModuleDict({"a": self.a, "c": self.a})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in (self.a, self.b, self.inner["a"], self.inner["c"]):
            x = torch.tanh(layer(x))
        return x


def moved(added: list[nn.Parameter]) -> None:
    for p in added:
        nn.init.normal_(p, std=0.5)


@pytest.mark.parametrize(
    ("model", "layers", "x"),
    [
        (Tied(), ["head"], torch.arange(9)),
        (Repeated(), ["a", "b", "c"], torch.randn(3, 4)),
        (Repeated(), ["a"], torch.randn(3, 4)),  # one of the names only
        (nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True), ["linear1", "linear2"], torch.randn(2, 3, 8)),
        (nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True), ["out_proj"], torch.randn(2, 3, 8)),
    ],
    ids=["tied", "two names", "one of two names", "encoder layer", "attention in it"],
)
@pytest.mark.parametrize("training", [True, False])
def test_merged_and_unmerged(model: nn.Module, layers: list[str], x: torch.Tensor, training: bool) -> None:
    torch.manual_seed(0)
    model = copy.deepcopy(model).train(training)
    frozen = model(x).detach()
    added = add_adapters(model, layers, rank=2)
    assert torch.allclose(model(x), frozen, atol=1e-6)
    moved(added)
    expected = model(x)
    assert not torch.allclose(expected, frozen, atol=1e-3)
    expected.pow(3).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in added)
    state = {name: t.clone() for name, t in model.state_dict().items()}
    with torch.no_grad():  # in eval mode, torch's own fast path
        assert torch.allclose(model(x), expected, atol=1e-5)
        merge_adapters(model)
        assert torch.allclose(model(x), expected, atol=1e-5)
        assert not any(name.endswith(("down", "up", "linear.weight")) for name in model.state_dict())
        unmerge_adapters(model)
        assert all(torch.equal(t, state[name]) for name, t in model.state_dict().items())
        assert {id(p) for p in model.parameters() if p.requires_grad} == {id(p) for p in added}
        for p in added:
            p.zero_()
        assert torch.allclose(model(x), frozen, atol=1e-6)  # nothing else has changed


def test_attention_alone() -> None:
    x = torch.randn(2, 3, 8)
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    added = add_adapters(attention, ["out_proj"], rank=2)
    moved(added)
    expected = attention(x, x, x)[0]
    attention.eval()
    with torch.no_grad():
        assert torch.allclose(attention(x, x, x)[0], expected, atol=1e-6)
        merge_adapters(attention)
        assert torch.allclose(attention(x, x, x)[0], expected, atol=1e-6)


def test_adapters_added_in_two_calls() -> None:
    model = nn.Sequential()
    model.q, model.v, model.linear, model.head = (nn.Linear(4, 4) for _ in range(4))
    first, second = add_adapters(model, ["q"], rank=2), add_adapters(model, ["v", "linear"], rank=2)
    assert {id(p) for p in model.parameters() if p.requires_grad} == {id(p) for p in first + second}
    assert len(first + second) == 6
    with pytest.raises(ValueError, match="no linear layer without an adapter of Sequential has such a name"):
        add_adapters(model, ["q"], rank=2)
    with pytest.raises(ValueError, match="no linear layer without an adapter"):
        add_adapters(model, ["linear"], rank=2)  # not the frozen layer within an adapter


def test_layers_that_are_shared_have_one_adapter() -> None:
    assert len(add_adapters(Repeated(), ["a", "b", "c"], rank=2)) == 2


def test_a_refusal_leaves_the_model_as_it_was() -> None:
    model = nn.ModuleDict({"a": nn.Linear(8, 8), "b": nn.Linear(2, 2)})
    with pytest.raises(ValueError, match="rank is 4; a whole number from 1 to 2"):
        add_adapters(model, ["a", "b"], rank=4)
    nn.utils.parametrizations.weight_norm(model["b"])
    with pytest.raises(ValueError, match="pruned, parametrised or quantised"):
        add_adapters(model, ["a", "b"], rank=2)
    assert isinstance(model["a"], nn.Linear)
    assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(ValueError, match="no layer of ModuleDict was merged"):
        unmerge_adapters(model)


def test_errors() -> None:
    with pytest.raises(ValueError, match="rank is 9; a whole number from 1 to 4"):
        LowRank(nn.Linear(4, 8), rank=9)
    with pytest.raises(ValueError, match=r"layers is \('query',\); no linear layer of VisionTransformer"):
        add_adapters(build("vit-tiny"), ["query"])
