"""Wide residual networks: pre-activation blocks, no dropout."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn.functional import relu

from lookbehind.models.resnet import conv1x1, conv3x3, fan_out_


class PreactivationBlock(nn.Module):
    """Two 3×3 convolutions after batch norm and ReLU: x + conv(relu(bn(conv(relu(bn(x))))))."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv3x3(inputs, width, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), conv3x3(width, width)
        # Of x itself, as in the code behind the paper's numbers; Zagoruyko and Komodakis project relu(bn(x)).
        self.downsample = nn.Identity() if inputs == width else conv1x1(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        out: Tensor = self.conv1(relu(self.bn1(x)))
        out = self.conv2(relu(self.bn2(out))) + self.downsample(x)
        return out


def wide_resnet(depth: int, width: int, channels: int = 3, classes: int = 10) -> nn.Sequential:
    """Return WRN-depth-width: a stem of 16 channels, stages of 16, 32 and 64 times ``width`` channels, a linear layer.

    Zagoruyko and Komodakis, 2016, without dropout. Convolutions are initialised by fan-out, as in the code that Kwon et
    al., 2021, and the paper after them used.

    Args:
        depth: convolutions on the longest way through the net, and the linear layer: 6n + 4 for n blocks a stage.
        width: how many times wider than a ResNet of 16, 32 and 64 channels.
        channels: channels of the images, of 8×8 pixels or more. Default 3.
        classes: number of classes. Default 10.

    Raises:
        ValueError: if ``depth`` is not 6n + 4 or ``width`` is less than 1.

    Example:
        >>> sum(p.numel() for p in wide_resnet(28, 2).parameters())
        1467610

    """
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"depth is {depth}; it has to be 6n + 4 for some n of at least 1, such as 10, 16 or 28")
    if width < 1:
        raise ValueError(f"width is {width}; a whole number of at least 1 is needed")
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv1=conv3x3(channels, 16))
    inputs = 16
    for stage in (1, 2, 3):
        outputs = 16 * width * 2 ** (stage - 1)
        blocks = []
        for i in range((depth - 4) // 6):
            blocks.append(PreactivationBlock(inputs, outputs, 2 if stage > 1 and i == 0 else 1))
            inputs = outputs
        layers[f"layer{stage}"] = nn.Sequential(*blocks)
    layers["bn"], layers["relu"] = nn.BatchNorm2d(inputs), nn.ReLU()
    layers["avgpool"], layers["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    layers["fc"] = nn.Linear(inputs, classes)
    net = nn.Sequential(layers)
    fan_out_(net)
    return net
