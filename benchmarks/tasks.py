"""What is trained while steps are timed: a net, and one minibatch of random numbers of real shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lookbehind.models import build


@dataclass(frozen=True)
class Task:
    """A net and the shape of its minibatch."""

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]  # of the inputs, the minibatch first
    classes: int = 10

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return self.make()

    def minibatch(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1)
        targets = torch.randint(0, self.classes, self.shape[:1], generator=generator)
        return torch.randn(self.shape, generator=generator), targets


class SmallViT(nn.Module):
    """A vision transformer of six pre-norm blocks of width 128 on 8×8 patches of 32×32 images: 1.2 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 128, 8, 8)
        self.token = nn.Parameter(torch.zeros(1, 1, 128))
        self.positions = nn.Parameter(0.02 * torch.randn(1, 17, 128))
        block = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, 6, nn.LayerNorm(128), enable_nested_tensor=False)
        self.head = nn.Linear(128, 10)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(images), -1, -1), patches], 1) + self.positions
        return self.head(self.blocks(tokens)[:, 0])


def mlp() -> nn.Module:
    """Return an MLP of 85,002 parameters."""
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))


TASKS = (
    Task("MLP", mlp, (128, 64)),
    Task("WRN-10-1", lambda: build("wrn-10-1"), (32, 3, 32, 32)),
    Task("WRN-28-2", lambda: build("wrn-28-2"), (16, 3, 32, 32)),
    Task("ResNet-18", lambda: build("resnet18"), (32, 3, 112, 112)),
    Task("ViT", SmallViT, (64, 3, 32, 32)),
)
