"""The Transformer for translation of Vaswani et al. (2017), in the shape that fairseq gave it for IWSLT'14."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

Past = list[Tensor]  # of each decoder layer its inputs so far, (hypotheses, tokens, width)


class TranslationTransformer(nn.Module):
    r"""Encoder and decoder, each sublayer x ↦ LayerNorm(x + Dropout(sublayer(x))).

    Embeddings are scaled by √width and get sinusoidal positions; the decoder's embedding is also the output layer. With
    the defaults and dictionaries of 8848 and 6632 it has 39,469,056 parameters: fairseq's ``transformer_iwslt_de_en``,
    with ``--share-decoder-input-output-embed``. As there, dropout acts on embeddings and sublayers, not on attention
    weights and not inside feed-forward layers.

    Args:
        source_size: size of the source dictionary.
        target_size: size of the target dictionary.
        padding: number that stands for no token, in both. Default 0.
        layers: of the encoder, and as many of the decoder. Default 6.
        width: d. Default 512.
        feedforward: hidden units of a feed-forward layer. Default 1024.
        heads: of each attention. Default 4.
        dropout: probability. Default 0.3.
        longest: most tokens that a sentence may have. Default 1024.

    Example:
        >>> model = TranslationTransformer(11, 7, layers=1, width=8, feedforward=16, heads=2)
        >>> source, previous = torch.tensor([[5, 6, 1], [4, 1, 0]]), torch.tensor([[1, 3], [1, 4]])
        >>> model((source, previous)).shape
        torch.Size([2, 2, 7])

    """

    positions: Tensor

    def __init__(
        self,
        source_size: int,
        target_size: int,
        *,
        padding: int = 0,
        layers: int = 6,
        width: int = 512,
        feedforward: int = 1024,
        heads: int = 4,
        dropout: float = 0.3,
        longest: int = 1024,
    ) -> None:
        super().__init__()
        if width % 2 or width % heads:
            raise ValueError(f"width is {width}; an even multiple of the {heads} heads is needed")
        self.padding, self.scale = padding, math.sqrt(width)
        shape: dict[str, Any] = {"dim_feedforward": feedforward, "dropout": dropout, "batch_first": True}
        self.source = nn.Embedding(source_size, width, padding)
        self.target = nn.Embedding(target_size, width, padding)
        self.encoder = nn.ModuleList(nn.TransformerEncoderLayer(width, heads, **shape) for _ in range(layers))
        self.decoder = nn.ModuleList(nn.TransformerDecoderLayer(width, heads, **shape) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("positions", sinusoids(longest, width), persistent=False)
        self._initialise(width)

    def _initialise(self, width: int) -> None:
        for embedding in (self.source, self.target):
            nn.init.normal_(embedding.weight, std=width**-0.5)
            nn.init.zeros_(embedding.weight[self.padding].detach())
        for layer in (*self.encoder, *self.decoder):
            layer.dropout.p = 0.0  # inside the feed-forward layer
            for module in layer.modules():
                if isinstance(module, nn.MultiheadAttention):
                    module.dropout = 0.0  # of the attention weights
                    nn.init.xavier_uniform_(module.out_proj.weight)

    def forward(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """Return logits of the next token at each place, (sentences, target tokens, target dictionary).

        Args:
            inputs: source tokens, (sentences, source tokens), and the target tokens so far, (sentences, target tokens);
                both filled up at the end with ``padding``.

        """
        source, previous = inputs
        memory, hidden = self.encode(source)
        length = previous.shape[1]
        later = torch.ones(length, length, dtype=torch.bool, device=previous.device).triu(1)
        x = self.dropout(self._embedded(self.target, previous, 0))
        # Padding comes last and is hidden by `later` from all that counts.
        for layer in self.decoder:
            x = layer(x, memory, tgt_mask=later, tgt_is_causal=True, memory_key_padding_mask=hidden)
        return linear(x, self.target.weight)

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encoder's outputs, (sentences, tokens, width), and where the source is padding."""
        hidden = source == self.padding
        x = self.dropout(self._embedded(self.source, source, 0))
        for layer in self.encoder:
            x = layer(x, src_key_padding_mask=hidden)
        return x, hidden

    def extend(self, last: Tensor, past: Past, memory: Tensor, hidden: Tensor) -> tuple[Tensor, Past]:
        """Return logits of the next token after ``last``, (hypotheses, dictionary), and the past with it.

        The same as ``forward`` in eval mode, without computing anew what earlier tokens were.

        Args:
            last: the newest token of each hypothesis; as many hypotheses for each sentence, sentence by sentence.
            past: what the call before returned. At first an empty list.
            memory: of ``encode``.
            hidden: of ``encode``.

        """
        sentences, width = len(memory), memory.shape[2]
        x = self._embedded(self.target, last.unsqueeze(1), past[0].shape[1] if past else 0)
        inputs: Past = []
        for i, module in enumerate(self.decoder):
            layer = cast(nn.TransformerDecoderLayer, module)
            inputs.append(torch.cat([past[i], x], 1) if past else x)
            x = layer.norm1(x + layer.self_attn(x, inputs[i], inputs[i], need_weights=False)[0])
            x = x.view(sentences, -1, width)  # the hypotheses of a sentence look at one memory
            x = layer.norm2(x + layer.multihead_attn(x, memory, memory, key_padding_mask=hidden, need_weights=False)[0])
            x = layer.norm3(x + layer.linear2(layer.activation(layer.linear1(x)))).view(-1, 1, width)
        return linear(x.squeeze(1), self.target.weight), inputs

    def _embedded(self, embedding: nn.Embedding, tokens: Tensor, start: int) -> Tensor:
        end = start + tokens.shape[1]
        if end > len(self.positions):
            raise ValueError(f"a sentence has {end} tokens; at most {len(self.positions)} are allowed: give longest")
        embedded: Tensor = self.scale * embedding(tokens) + self.positions[start:end]
        return embedded


def sinusoids(length: int, width: int) -> Tensor:
    r"""Return positions p as (sin pω₀, …, cos pω₀, …), of shape (length, width).

    .. math:: \omega_i = 10000^{-i / (w/2 - 1)}, \quad i = 0, \dots, w/2 - 1

    the frequencies of tensor2tensor and fairseq, where Vaswani et al. divide by w/2.
    """
    half = width // 2
    frequencies = torch.exp(torch.arange(half) * -(math.log(10_000) / max(half - 1, 1)))
    angles = torch.arange(length).unsqueeze(1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)
