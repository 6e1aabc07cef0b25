"""Vision Transformers against an independent transcription, another implementation, and the published counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lookbehind.models import VisionTransformer, build, vit_base, vit_small, vit_tiny
from lookbehind.models.vit import sines

# The names and shapes that timm's vit_base_patch16_224 has, a block standing for all twelve.
BLOCK = {
    "norm1.weight": (768,),
    "norm1.bias": (768,),
    "attn.qkv.weight": (2304, 768),
    "attn.qkv.bias": (2304,),
    "attn.proj.weight": (768, 768),
    "attn.proj.bias": (768,),
    "norm2.weight": (768,),
    "norm2.bias": (768,),
    "mlp.fc1.weight": (3072, 768),
    "mlp.fc1.bias": (3072,),
    "mlp.fc2.weight": (768, 3072),
    "mlp.fc2.bias": (768,),
}
TIMM = {
    "cls_token": (1, 1, 768),
    "pos_embed": (1, 197, 768),
    "patch_embed.proj.weight": (768, 3, 16, 16),
    "patch_embed.proj.bias": (768,),
    "norm.weight": (768,),
    "norm.bias": (768,),
    "head.weight": (1000, 768),
    "head.bias": (1000,),
} | {f"blocks.{i}.{name}": shape for i in range(12) for name, shape in BLOCK.items()}


def shaken(size: int | None = 6, patch: int = 3) -> VisionTransformer:
    """A tiny net in float64 whose every parameter is random, so that a misplaced one shows."""
    torch.manual_seed(0)
    model = VisionTransformer(size=size, patch=patch, dim=8, depth=2, heads=2, channels=2, classes=3).double()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return model


def test_vit_b_has_the_names_shapes_and_number_of_parameters_of_timm() -> None:
    with torch.device("meta"):
        model = vit_base()
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == TIMM
    assert sum(p.numel() for p in model.parameters()) == 86_567_656
    assert sum(math.prod(shape) for shape in TIMM.values()) == 86_567_656


def test_vit_s_has_the_number_of_parameters_of_timm() -> None:
    with torch.device("meta"):
        model = vit_small()
    assert sum(p.numel() for p in model.parameters()) == 22_050_664


def naive(state: dict[str, np.ndarray], image: np.ndarray, patch: int, heads: int, depth: int) -> np.ndarray:
    """Eq. 1 to 4 of Dosovitskiy et al., 2021, number by number."""

    def layer_norm(x: np.ndarray, name: str) -> np.ndarray:
        mean = sum(x) / len(x)
        variance = sum((value - mean) ** 2 for value in x) / len(x)
        return (x - mean) / math.sqrt(variance + 1e-6) * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return state[f"{name}.weight"] @ x + state[f"{name}.bias"]

    tokens = [state["cls_token"][0, 0]]
    for top in range(0, image.shape[1] - patch + 1, patch):
        for left in range(0, image.shape[2] - patch + 1, patch):
            piece = image[:, top : top + patch, left : left + patch].ravel()
            kernel = state["patch_embed.proj.weight"].reshape(-1, piece.size)
            tokens.append(kernel @ piece + state["patch_embed.proj.bias"])
    tokens = [token + position for token, position in zip(tokens, state["pos_embed"][0], strict=True)]
    dim = len(tokens[0])
    d = dim // heads
    for i in range(depth):
        block = f"blocks.{i}"
        mapped = [linear(layer_norm(token, f"{block}.norm1"), f"{block}.attn.qkv") for token in tokens]
        attended = [np.zeros(dim) for _ in tokens]
        for head in range(heads):
            part = slice(head * d, head * d + d)
            q, k, v = ([m[n * dim : (n + 1) * dim][part] for m in mapped] for n in range(3))
            for t in range(len(tokens)):
                scores = np.array([sum(q[t] * key) / math.sqrt(d) for key in k])
                weights = np.exp(scores - scores.max())
                weights = weights / weights.sum()
                attended[t][part] = sum(weight * value for weight, value in zip(weights, v, strict=True))
        tokens = [token + linear(a, f"{block}.attn.proj") for token, a in zip(tokens, attended, strict=True)]
        for t, token in enumerate(tokens):
            hidden = linear(layer_norm(token, f"{block}.norm2"), f"{block}.mlp.fc1")
            hidden = np.array([0.5 * value * (1 + math.erf(value / math.sqrt(2))) for value in hidden])
            tokens[t] = token + linear(hidden, f"{block}.mlp.fc2")
    return linear(layer_norm(tokens[0], "norm"), "head")


def test_equals_its_equations() -> None:
    model = shaken()
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    images = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    expected = np.stack([naive(state, image.numpy(), 3, 2, 2) for image in images])
    np.testing.assert_allclose(model(images).detach().numpy(), expected, rtol=1e-9)


def test_equals_another_implementation() -> None:
    """Against the ViT of transformers, with the same weights; its queries, keys and values are maps of their own."""
    transformers = pytest.importorskip("transformers")
    ours = shaken()
    config = transformers.ViTConfig(
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=6,
        patch_size=3,
        num_channels=2,
        layer_norm_eps=1e-6,
        num_labels=3,
    )
    theirs = transformers.ViTForImageClassification(config).double().eval()
    theirs.load_state_dict(their_weights(ours.state_dict()))
    images = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(ours(images), theirs(images).logits)


def their_weights(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    names = {
        "cls_token": "vit.embeddings.cls_token",
        "pos_embed": "vit.embeddings.position_embeddings",
        "patch_embed.proj": "vit.embeddings.patch_embeddings.projection",
        "norm": "vit.layernorm",
        "head": "classifier",
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.o_proj",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
    }
    mapped = {}
    for key, value in state.items():
        module, _, kind = key.rpartition(".")
        if not module:
            mapped[names[key]] = value
        elif not module.startswith("blocks."):
            mapped[f"{names[module]}.{kind}"] = value
        else:
            _, i, inside = module.split(".", 2)
            if inside == "attn.qkv":
                for which, part in zip("qkv", value.chunk(3), strict=True):
                    mapped[f"vit.layers.{i}.attention.{which}_proj.{kind}"] = part
            else:
                mapped[f"vit.layers.{i}.{names[inside]}.{kind}"] = value
    return mapped


def test_positions_of_sines() -> None:
    positions = sines(8, 2, 3)
    assert positions.shape == (7, 8)
    assert not positions[0].any()
    for row in range(2):
        for column in range(3):
            expected = []
            for place in (row, column):
                angles = [place, place / 100]  # 10,000 to the powers 0 and ½
                expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            torch.testing.assert_close(positions[1 + 3 * row + column], torch.tensor(expected))


@pytest.mark.parametrize(("side", "patches"), [(8, 16), (14, 49), (28, 196), (32, 256)])
def test_the_tiny_one_sees_all_of_small_images(side: int, patches: int) -> None:
    model, seen = vit_tiny(channels=1), []
    model.blocks.register_forward_hook(lambda *a: seen.append(a[-1].shape))
    images = torch.zeros(2, 1, side, side, requires_grad=True)
    model(images).sum().backward()
    assert seen == [(2, 1 + patches, 64)]
    assert (images.grad != 0).any(0).all()


def test_the_order_of_the_patches_matters() -> None:
    model = shaken(size=None).eval()
    images = torch.randn(2, 2, 9, 9, dtype=torch.float64)
    assert not torch.allclose(model(images), model(images.transpose(2, 3)))
    assert not torch.allclose(model(images), model(images.flip(3)))


def test_a_gradient_step_lowers_the_loss() -> None:
    torch.manual_seed(0)
    model = build("vit-tiny", channels=1)
    images, labels = torch.randn(6, 1, 8, 8), torch.arange(6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    before = torch.nn.functional.cross_entropy(model(images), labels)
    before.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    optimizer.step()
    assert torch.nn.functional.cross_entropy(model(images), labels) < before


def test_initialisation() -> None:
    """Linear maps are uniform up to √(6 / (inputs + outputs)), as Glorot and Bengio, 2010, have it."""
    torch.manual_seed(0)
    model = VisionTransformer(size=32, patch=2, dim=64, depth=2, heads=4)
    for name, p in model.named_parameters():
        if p.ndim == 2:
            bound = math.sqrt(6 / sum(p.shape))
            assert p.abs().max().item() == pytest.approx(bound, rel=0.01), name
            assert p.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05), name
        elif name.endswith("bias") and "patch_embed" not in name:
            assert not p.any(), name
    assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.05)
    assert 0 < model.cls_token.std().item() < 1e-5


def test_wrong_sizes_are_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"images have 9×6 pixels; this model takes 6×6"):
        shaken()(torch.zeros(1, 2, 9, 6, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"images have 2×9 pixels; a patch alone has 3×3"):
        shaken(size=None)(torch.zeros(1, 2, 2, 9, dtype=torch.float64))
    with pytest.raises(ValueError, match="dim is 9; a multiple of heads = 2"):
        VisionTransformer(size=6, patch=3, dim=9, depth=1, heads=2)
    with pytest.raises(ValueError, match=r"dim is 6; .* of 4"):
        VisionTransformer(size=None, patch=3, dim=6, depth=1, heads=2)
