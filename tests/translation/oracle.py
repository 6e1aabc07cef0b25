"""The Transformer of Vaswani et al. (2017), figures 1 and 2 and section 3, in NumPy, a sentence at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

Weights = dict[str, Any]


def logits(w: Weights, source: list[int], previous: list[int], heads: int, layers: int) -> Any:
    """Logits of one sentence without padding; w is the state of a TranslationTransformer as arrays."""
    memory = embedded(w["source.weight"], source)
    for i in range(layers):
        memory = encoder_layer(w, f"encoder.{i}.", memory, heads)
    x = embedded(w["target.weight"], previous)
    for i in range(layers):
        x = decoder_layer(w, f"decoder.{i}.", x, memory, heads)
    return x @ w["target.weight"].T


def embedded(table: Any, tokens: list[int]) -> Any:
    d = table.shape[1]
    rows = []
    for p, token in enumerate(tokens):
        angles = [p / 10_000 ** (i / (d // 2 - 1)) for i in range(d // 2)]
        rows.append(np.sqrt(d) * table[token] + np.array([*map(np.sin, angles), *map(np.cos, angles)]))
    return np.stack(rows)


def encoder_layer(w: Weights, name: str, x: Any, heads: int) -> Any:
    x = normed(w, name + "norm1", x + attention(w, name + "self_attn", x, x, heads, causal=False))
    return normed(w, name + "norm2", x + feedforward(w, name, x))


def decoder_layer(w: Weights, name: str, x: Any, memory: Any, heads: int) -> Any:
    x = normed(w, name + "norm1", x + attention(w, name + "self_attn", x, x, heads, causal=True))
    x = normed(w, name + "norm2", x + attention(w, name + "multihead_attn", x, memory, heads, causal=False))
    return normed(w, name + "norm3", x + feedforward(w, name, x))


def attention(w: Weights, name: str, queries: Any, keys: Any, heads: int, causal: bool) -> Any:
    d = queries.shape[1]
    projections = w[name + ".in_proj_weight"].reshape(3, d, d), w[name + ".in_proj_bias"].reshape(3, d)
    q, k, v = (x @ m.T + b for x, m, b in zip((queries, keys, keys), *projections, strict=True))
    mixed = []
    for head in np.split(np.arange(d), heads):
        scores = q[:, head] @ k[:, head].T / np.sqrt(len(head))
        if causal:
            scores = np.where(np.tri(len(scores), dtype=bool), scores, -np.inf)
        probabilities = np.exp(scores - scores.max(1, keepdims=True))
        mixed.append(probabilities / probabilities.sum(1, keepdims=True) @ v[:, head])
    return np.concatenate(mixed, 1) @ w[name + ".out_proj.weight"].T + w[name + ".out_proj.bias"]


def feedforward(w: Weights, name: str, x: Any) -> Any:
    hidden = np.maximum(x @ w[name + "linear1.weight"].T + w[name + "linear1.bias"], 0)
    return hidden @ w[name + "linear2.weight"].T + w[name + "linear2.bias"]


def normed(w: Weights, name: str, x: Any) -> Any:
    centred = x - x.mean(1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5) * w[name + ".weight"] + w[name + ".bias"]
