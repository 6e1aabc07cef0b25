"""The models against the published architectures: counts, shapes of every stage, wiring, initialisation."""

from __future__ import annotations

import copy
import math
import re
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lookbehind.models import MODELS, build, resnet, resnet18, resnet34, resnet50, small_resnet, wide_resnet
from lookbehind.models.convnet import Mean
from lookbehind.models.resnet import BasicBlock, Bottleneck


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def meta(builder, *arguments, **keywords) -> nn.Module:
    """Build without memory: nothing is computed but shapes."""
    with torch.device("meta"):
        return builder(*arguments, **keywords)


# Millions of parameters: table 6 of He et al., 2016, and table 4 of Zagoruyko and Komodakis, 2016.
HE = {20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7}
ZAGORUYKO = {
    (40, 1): 0.6,
    (40, 2): 2.2,
    (40, 4): 8.9,
    (40, 8): 35.7,
    (28, 10): 36.5,
    (28, 12): 52.5,
    (22, 8): 17.2,
    (22, 10): 26.8,
    (16, 8): 11.0,
    (16, 10): 17.1,
}


@pytest.mark.parametrize("depth", HE)
def test_parameters_in_the_table_of_he(depth: int) -> None:
    digits = 1 if depth == 110 else 2
    assert round(size(meta(small_resnet, depth)) / 1e6, digits) == HE[depth]


@pytest.mark.parametrize("shape", ZAGORUYKO)
def test_parameters_in_the_table_of_zagoruyko(shape: tuple[int, int]) -> None:
    assert round(size(meta(wide_resnet, *shape)) / 1e6, 1) == ZAGORUYKO[shape]


def test_parameters_in_the_documentation_of_torchvision() -> None:
    """For ImageNet. A 3×3 stem has (49 − 9) · 3 · 64 weights fewer than a 7×7 one."""
    fewer = (49 - 9) * 3 * 64
    assert size(meta(resnet18, classes=1000)) == 11_689_512
    assert size(meta(resnet34, classes=1000)) == 21_797_672 - fewer
    assert size(meta(resnet50, classes=1000)) == 25_557_032 - fewer


def wide_resnet_by_formula(depth: int, width: int, channels: int, classes: int) -> int:
    """Count layer by layer, in closed form."""
    n, c = (depth - 4) // 6, [16 * width, 32 * width, 64 * width]
    total, inputs = 9 * channels * 16, 16
    for outputs in c:
        convolutions = 9 * inputs * outputs + (2 * n - 1) * 9 * outputs**2
        batch_norms = 2 * inputs + (2 * n - 1) * 2 * outputs
        total += convolutions + batch_norms + (inputs * outputs if inputs != outputs else 0)
        inputs = outputs
    return total + 2 * c[-1] + (c[-1] + 1) * classes


@pytest.mark.parametrize(("depth", "width"), [(10, 1), (16, 2), (28, 2), (28, 10)])
@pytest.mark.parametrize(("channels", "classes"), [(3, 10), (1, 100)])
def test_parameters_by_formula(depth: int, width: int, channels: int, classes: int) -> None:
    model = meta(build, f"wrn-{depth}-{width}", channels=channels, classes=classes)
    assert size(model) == wide_resnet_by_formula(depth, width, channels, classes)


@pytest.mark.parametrize("name", MODELS)
def test_descriptions_state_the_right_number(name: str) -> None:
    stated = re.search(r"([\d,]+) parameters", MODELS[name].description).group(1)
    assert f"{size(meta(build, name)):,}" == stated


# Channels and size after each child that has a row in the published tables, for images of the published size.
SHAPES = {
    "resnet18": (224, [(64, 112), (64, 56), (64, 56), (128, 28), (256, 14), (512, 7), (512, 1)]),
    "resnet34": (32, [(64, 32), (64, 32), (64, 32), (128, 16), (256, 8), (512, 4), (512, 1)]),
    "resnet50": (32, [(64, 32), (64, 32), (256, 32), (512, 16), (1024, 8), (2048, 4), (2048, 1)]),
    "resnet8": (32, [(16, 32), (16, 32), (16, 32), (32, 16), (64, 8), (64, 1)]),
    "wrn-10-1": (32, [(16, 32), (16, 32), (32, 16), (64, 8), (64, 1)]),
    "wrn-16-2": (32, [(16, 32), (32, 32), (64, 16), (128, 8), (128, 1)]),
    "wrn-28-2": (32, [(16, 32), (32, 32), (64, 16), (128, 8), (128, 1)]),
    "wrn-28-10": (32, [(16, 32), (160, 32), (320, 16), (640, 8), (640, 1)]),
}
# Blocks of each stage.
BLOCKS = {
    "resnet18": [2, 2, 2, 2],
    "resnet34": [3, 4, 6, 3],
    "resnet50": [3, 4, 6, 3],
    "resnet8": [1, 1, 1],
    "wrn-10-1": [1, 1, 1],
    "wrn-16-2": [2, 2, 2],
    "wrn-28-2": [4, 4, 4],
    "wrn-28-10": [4, 4, 4],
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_shape_after_every_stage(name: str) -> None:
    side, expected = SHAPES[name]
    model = meta(build, name, classes=100)
    seen = []
    for child, module in model.named_children():
        if child in ("conv1", "maxpool", "avgpool") or child.startswith("layer"):
            module.register_forward_hook(lambda *a: seen.append((a[-1].shape[1], a[-1].shape[2])))
    outputs = model(torch.zeros(2, 3, side, side, device="meta"))
    assert seen == expected
    assert outputs.shape == (2, 100)
    assert [len(module) for child, module in model.named_children() if child.startswith("layer")] == BLOCKS[name]


@pytest.mark.parametrize("name", sorted({*MODELS} - {"vit-s-16", "vit-b-16"}))  # which take 224 pixels alone
@pytest.mark.parametrize("side", [8, 14, 28, 33])
@pytest.mark.parametrize("channels", [1, 5])
def test_any_size_and_any_number_of_channels(name: str, side: int, channels: int) -> None:
    model = meta(build, name, channels=channels, classes=7)
    assert model(torch.zeros(2, channels, side, side, device="meta")).shape == (2, 7)


@pytest.mark.parametrize("side", [2, 8, 28])
def test_the_convnet_in_both_memory_formats(side: int) -> None:
    torch.manual_seed(0)
    model, images = build("convnet", channels=1), torch.randn(6, 1, side, side)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(images), model(images))
    features = torch.randn(3, 5, side, side)
    for laid in (features, features.to(memory_format=torch.channels_last)):
        laid.requires_grad_()
        Mean()(laid).square().sum().backward()
        assert laid.grad.stride() == laid.stride() or side == 2
        torch.testing.assert_close(laid.grad, (2 * features.mean((2, 3), keepdim=True) / side**2).expand_as(laid))
    assert torch.equal(Mean()(features), torch.nn.AdaptiveAvgPool2d(1)(features))


@pytest.mark.parametrize("name", ["convnet", "resnet8", "wrn-10-1", "wrn-16-2", "resnet34", "resnet18"])
@pytest.mark.parametrize("side", [8, 28])
def test_a_gradient_step_lowers_the_loss(name: str, side: int) -> None:
    torch.manual_seed(0)
    model = build(name, channels=1)
    images, labels = torch.randn(6, 1, side, side), torch.arange(6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    before = F.cross_entropy(model(images), labels)
    before.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(p.grad.abs().sum() > 0 for p in model.parameters() if p.ndim > 1)
    optimizer.step()
    assert F.cross_entropy(model(images), labels) < before


@pytest.mark.parametrize("builder", [partial(build, "wrn-16-2"), partial(build, "resnet8"), resnet18])
def test_fan_out_initialisation(builder) -> None:
    """N(0, 2 / (outputs · area)): deviation and shape of the pooled, standardised weights."""
    torch.manual_seed(0)
    standardised = []
    for module in builder().modules():
        if isinstance(module, nn.Conv2d):
            outputs, _, height, width = module.weight.shape
            standardised.append(module.weight.detach().flatten() * math.sqrt(outputs * height * width / 2))
            if module.weight.numel() > 4000:
                assert standardised[-1].std().item() == pytest.approx(1.0, rel=0.05)
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()
    pooled = torch.cat(standardised).double()
    n = len(pooled)
    assert pooled.mean().abs().item() < 4 / math.sqrt(n)
    assert pooled.var().item() == pytest.approx(1.0, abs=6 / math.sqrt(n))
    assert pooled.pow(4).mean().item() == pytest.approx(3.0, abs=60 / math.sqrt(n))  # a normal's; a uniform's is 1.8


def test_torch_initialises_the_cifar_resnets() -> None:
    """U(−1/√fan-in, 1/√fan-in), as the paper's code leaves it."""
    torch.manual_seed(0)
    for module in resnet34().modules():
        if isinstance(module, nn.Conv2d):
            bound = 1 / math.sqrt(module.weight[0].numel())
            assert module.weight.abs().max().item() == pytest.approx(bound, rel=0.02)


def shaken(model: nn.Module) -> nn.Module:
    """Give batch norms statistics and parameters of their own, so that a misplaced one shows."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.weight, 0.5), (module.running_var, 0.5), (module.bias, -0.5)):
                tensor.data.uniform_(low, low + 1, generator=generator)
            module.running_mean.uniform_(-0.5, 0.5, generator=generator)
    return model.double().eval()


def batch_norm(state: dict[str, Tensor], x: Tensor, key: str) -> Tensor:
    mean, variance, gamma, beta = (
        state[f"{key}.{what}"][:, None, None] for what in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * gamma + beta


@pytest.mark.parametrize("name", ["wrn-10-1", "wrn-16-2"])
def test_wide_resnet_equals_its_equations(name: str) -> None:
    """Pre-activation, and a shortcut that projects x itself."""
    torch.manual_seed(0)
    model = shaken(build(name, channels=2))
    s = model.state_dict()
    bn = partial(batch_norm, s)
    images = torch.randn(3, 2, 9, 9, dtype=torch.float64)
    x = F.conv2d(images, s["conv1.weight"], padding=1)
    for stage in (1, 2, 3):
        for i in range(len(model[stage])):
            key, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
            y = F.conv2d(bn(x, f"{key}.bn1").clamp(min=0), s[f"{key}.conv1.weight"], stride=stride, padding=1)
            y = F.conv2d(bn(y, f"{key}.bn2").clamp(min=0), s[f"{key}.conv2.weight"], padding=1)
            projected = f"{key}.downsample.weight"
            x = y + (F.conv2d(x, s[projected], stride=stride) if projected in s else x)
    features = bn(x, "bn").clamp(min=0).mean((2, 3))
    torch.testing.assert_close(model(images), features @ s["fc.weight"].T + s["fc.bias"])


@pytest.mark.parametrize("imagenet", [False, True])
@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_resnet_equals_its_equations(block, imagenet: bool) -> None:
    """The nonlinearity after the sum; a bottleneck's stride in its 3×3 convolution."""
    torch.manual_seed(0)
    depths = (2, 1, 2)
    model = shaken(resnet(block, depths, (8, 12, 16), channels=2, imagenet=imagenet))
    s = model.state_dict()
    bn = partial(batch_norm, s)
    images = torch.randn(2, 2, 37, 37, dtype=torch.float64)
    x = F.conv2d(images, s["conv1.weight"], stride=2 if imagenet else 1, padding=3 if imagenet else 1)
    x = bn(x, "bn1").clamp(min=0)
    x = F.max_pool2d(x, 3, 2, 1) if imagenet else x
    # (convolution, padding, takes the block's stride) of each layer
    layers = [(1, 1, True), (2, 1, False)] if block is BasicBlock else [(1, 0, False), (2, 1, True), (3, 0, False)]
    for stage, depth in enumerate(depths, 1):
        for i in range(depth):
            key, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
            y = x
            for number, padding, strided in layers:
                y = y.clamp(min=0) if number > 1 else y
                weight = s[f"{key}.conv{number}.weight"]
                y = bn(F.conv2d(y, weight, stride=stride if strided else 1, padding=padding), f"{key}.bn{number}")
            if f"{key}.downsample.0.weight" in s:
                x = bn(F.conv2d(x, s[f"{key}.downsample.0.weight"], stride=stride), f"{key}.downsample.1")
            x = (x + y).clamp(min=0)
    torch.testing.assert_close(model(images), x.mean((2, 3)) @ s["fc.weight"].T + s["fc.bias"])


def test_resnet8_pads_its_shortcuts() -> None:
    """Where both convolutions of a block give zero, its output is option A of its (positive) input."""
    model = small_resnet(8).eval()
    block = model.layer2[0]
    nn.init.zeros_(block.bn2.weight)
    x = torch.rand(2, 16, 6, 6)
    out = block(x)
    assert torch.equal(out[:, :16], x[:, :, ::2, ::2])
    assert not out[:, 16:].any()
    assert not list(block.downsample.parameters())


@pytest.mark.parametrize(("block", "kind"), [(BasicBlock, "basic"), (Bottleneck, "bottleneck")])
def test_resnet_equals_another_implementation(block, kind: str) -> None:
    """Against the ResNet of transformers, with the same weights, through stem, stages and pooling."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    widths = (8, 16, 24, 32)
    ours = shaken(resnet(block, (2, 1, 2, 1), widths, imagenet=True))
    hidden = [w * block.expansion for w in widths]
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=hidden, depths=[2, 1, 2, 1], layer_type=kind, hidden_act="relu"
    )
    theirs = transformers.ResNetModel(config).double().eval()
    source = {key: value for key, value in ours.state_dict().items() if not key.startswith("fc.")}
    theirs.load_state_dict({_their_name(key): value for key, value in source.items()})
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    theirs_pooled = theirs(images).pooler_output.flatten(1)
    torch.testing.assert_close(ours[:-1](images), theirs_pooled)


def _their_name(key: str) -> str:
    parts = key.split(".")
    if parts[0] in ("conv1", "bn1"):
        return f"embedder.embedder.{ {'conv1': 'convolution', 'bn1': 'normalization'}[parts[0]] }.{parts[-1]}"
    prefix = f"encoder.stages.{int(parts[0][-1]) - 1}.layers.{parts[1]}."
    if parts[2] == "downsample":
        return prefix + f"shortcut.{('convolution', 'normalization')[int(parts[3])]}.{parts[-1]}"
    kind = {"conv": "convolution", "bn": "normalization"}[parts[2][:-1]]
    return prefix + f"layer.{int(parts[2][-1]) - 1}.{kind}.{parts[-1]}"


def test_names_are_those_of_torchvision() -> None:
    """So that published weights load: 20 convolutions, as many batch norms, one linear layer."""
    keys = set(meta(resnet18, classes=1000).state_dict())
    assert len(keys) == 20 + 20 * 5 + 2
    assert {"conv1.weight", "bn1.running_var", "layer2.0.downsample.1.bias", "layer4.1.bn2.weight", "fc.bias"} <= keys


def test_mistakes() -> None:
    with pytest.raises(ValueError, match=r"model is 'resnet9'; did you mean resnet8\? Allowed are convnet, resnet8"):
        build("resnet9")
    with pytest.raises(ValueError, match="channels is 0"):
        build("resnet8", channels=0)
    with pytest.raises(ValueError, match="classes is -1"):
        build("resnet8", classes=-1)
    with pytest.raises(ValueError, match="depth is 9"):
        small_resnet(9)
    with pytest.raises(ValueError, match="depth is 4"):
        wide_resnet(4, 1)
    with pytest.raises(ValueError, match="width is 0"):
        wide_resnet(10, 0)
