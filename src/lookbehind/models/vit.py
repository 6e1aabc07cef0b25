"""Vision Transformers (Dosovitskiy et al., 2021), with the names that timm gives to their weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class VisionTransformer(nn.Module):
    r"""An image as a sentence of patches: a linear map of each, transformer blocks, and a class token that is read off.

    .. math::
        z &= [z_{cls};\, E p_1;\, \dots;\, E p_n] + P \\
        z &\leftarrow z + \mathrm{Attention}(\mathrm{LN}(z)), \qquad z \leftarrow z + \mathrm{MLP}(\mathrm{LN}(z)) \\
        y &= W\, \mathrm{LN}(z)_{cls} + b

    (eq. 1 to 4 of Dosovitskiy et al., 2021, without a layer between LN and the last map, as for fine-tuning). Names and
    shapes of the weights are timm's, so its published weights fit.

    Args:
        size: height and width of the images, for which positions P are learnt. None: images of any size, P fixed sines
            and cosines of row and column.
        patch: height and width of a patch; what is left over at the right and at the bottom is not seen.
        dim: channels of a token, a multiple of ``heads``.
        depth: number of blocks.
        heads: heads of attention.
        channels: channels of the images. Default 3.
        classes: number of classes. Default 1000.

    Raises:
        ValueError: if ``dim`` is no multiple of ``heads`` (without ``size``, also of 4), or an image of another size or
            smaller than a patch comes.

    Example:
        >>> model = VisionTransformer(size=8, patch=4, dim=8, depth=1, heads=2, classes=10)
        >>> model(torch.zeros(5, 3, 8, 8)).shape
        torch.Size([5, 10])

    """

    def __init__(
        self,
        *,
        size: int | None,
        patch: int,
        dim: int,
        depth: int,
        heads: int,
        channels: int = 3,
        classes: int = 1000,
    ) -> None:
        super().__init__()
        if dim % heads or (size is None and dim % 4):
            raise ValueError(f"dim is {dim}; a multiple of heads = {heads} is needed, and of 4 for positions of sines")
        self.size, self.patch = size, patch
        self.patch_embed = nn.Sequential()
        self.patch_embed.add_module("proj", nn.Conv2d(channels, dim, patch, stride=patch))
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed = None if size is None else nn.Parameter(torch.empty(1, 1 + (size // patch) ** 2, dim))
        self.blocks = nn.Sequential(*(Block(dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, classes)
        self._initialise()

    def _initialise(self) -> None:
        """Glorot's for linear maps, as the paper has it; small positions, and a class token of nearly nothing."""
        nn.init.normal_(self.cls_token, std=1e-6)
        if self.pos_embed is not None:
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, of shape (images, classes)."""
        height, width = images.shape[2:]
        if self.size is not None and (height, width) != (self.size, self.size):
            raise ValueError(f"images have {height}×{width} pixels; this model takes {self.size}×{self.size}")
        if min(height, width) < self.patch:
            raise ValueError(f"images have {height}×{width} pixels; a patch alone has {self.patch}×{self.patch}")
        patches = self.patch_embed(images)
        tokens = patches.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), tokens], dim=1)
        positions = sines(*patches.shape[1:]).to(tokens) if self.pos_embed is None else self.pos_embed
        logits: Tensor = self.head(self.norm(self.blocks(tokens + positions))[:, 0])
        return logits


class Block(nn.Module):
    """Attention and a two-layer net, each after a layer norm and beside a shortcut."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential()
        for name, layer in (("fc1", nn.Linear(dim, 4 * dim)), ("act", nn.GELU()), ("fc2", nn.Linear(4 * dim, dim))):
            self.mlp.add_module(name, layer)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens of the same shape."""
        tokens = tokens + self.attn(self.norm1(tokens))
        mixed: Tensor = tokens + self.mlp(self.norm2(tokens))
        return mixed


class Attention(nn.Module):
    """Several heads of softmax(q kᵀ / √d) v; queries, keys and values come from one linear map."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens of the same shape."""
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return attended


def sines(dim: int, rows: int, columns: int) -> Tensor:
    """Return fixed positions: sines and cosines of the row and of the column, zero for the class token.

    Of dim / 4 frequencies from 1 down to nearly 1/10,000, as for sentences (Vaswani et al., 2017), once for each axis.

    Args:
        dim: channels of a token, a multiple of 4.
        rows: rows of patches.
        columns: columns of patches.

    Returns:
        A float32 tensor of shape (1 + rows · columns, dim).

    """
    frequencies = torch.exp(-math.log(10_000) * torch.arange(dim // 4) / (dim // 4))
    down, right = (torch.arange(length)[:, None] * frequencies for length in (rows, columns))
    down, right = (torch.cat([angles.sin(), angles.cos()], dim=1) for angles in (down, right))
    grid = torch.cat([down[:, None].expand(-1, columns, -1), right[None].expand(rows, -1, -1)], dim=2)
    return torch.cat([torch.zeros(1, dim), grid.flatten(0, 1)])


def vit_base(channels: int = 3, classes: int = 1000) -> VisionTransformer:
    """Build ViT-B/16 for images of 224×224 pixels: 86,567,656 parameters with 1000 classes.

    Args:
        channels: channels of the images. Default 3.
        classes: number of classes. Default 1000.

    """
    return VisionTransformer(size=224, patch=16, dim=768, depth=12, heads=12, channels=channels, classes=classes)


def vit_small(channels: int = 3, classes: int = 1000) -> VisionTransformer:
    """Build ViT-S/16 for images of 224×224 pixels: 22,050,664 parameters with 1000 classes.

    Args:
        channels: channels of the images. Default 3.
        classes: number of classes. Default 1000.

    """
    return VisionTransformer(size=224, patch=16, dim=384, depth=12, heads=6, channels=channels, classes=classes)


def vit_tiny(channels: int = 3, classes: int = 10) -> VisionTransformer:
    """Build a Vision Transformer for small images of any size: patches of 2×2 pixels, 4 blocks of 64 channels.

    Args:
        channels: channels of the images. Default 3.
        classes: number of classes. Default 10.

    Example:
        >>> sum(p.numel() for p in vit_tiny().parameters())
        201610

    """
    return VisionTransformer(size=None, patch=2, dim=64, depth=4, heads=4, channels=channels, classes=classes)
