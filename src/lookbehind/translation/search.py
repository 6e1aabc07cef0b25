"""Beam search: the translations that a model finds most probable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lookbehind.translation.batches import cut, filled
from lookbehind.translation.tokens import END, PADDING


class Translator(Protocol):
    """Model as the search calls it: see ``TranslationTransformer``."""

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Return the memory of the sources, and where they are padding."""

    def extend(self, last: Tensor, past: Any, memory: Tensor, hidden: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return logits of the next token of each hypothesis, and tensors by hypothesis that it takes to go on."""


@torch.no_grad()
def beam_search(model: Translator, source: Tensor, beam: int = 5, longest: int = 200) -> list[list[int]]:
    r"""Return for each source the best translation that was found, with the token of its end.

    .. math:: \max_y \frac{1}{|y|} \sum_{i=1}^{|y|} \log p(y_i \mid y_{<i}, x)

    The length |y| counts the end. In each step a sentence keeps its ``beam`` best open hypotheses; those among its best
    ``beam`` that end are finished. A sentence is done with ``beam`` finished hypotheses, or at the longest.

    Args:
        model: in eval mode.
        source: tokens, (sentences, tokens), filled up with padding.
        beam: hypotheses a sentence. Default 5.
        longest: most tokens of a translation, its end not counted. Default 200.

    Returns:
        Tokens of each translation.

    """
    if beam < 1 or longest < 0:
        raise ValueError(f"beam is {beam} and longest {longest}; at least 1 and 0 are needed")
    memory, hidden = model.encode(source)
    n, device = len(source), source.device
    best: list[list[int]] = [[] for _ in range(n)]
    best_scores = [float("-inf")] * n
    finished = [0] * n
    alive = list(range(n))  # which sentences the rows below are of
    tokens = torch.full((n, 1, 1), END, device=device)  # sentences, hypotheses, tokens; first a single hypothesis
    scores = torch.zeros(n, 1, device=device)
    past: list[Tensor] = []
    for length in range(1, longest + 2):
        logits, past = model.extend(tokens[:, :, -1].flatten(), past, memory, hidden)
        steps = logits.float().log_softmax(-1).view(*scores.shape, -1)
        steps[:, :, PADDING] = float("-inf")
        if length > longest:
            steps[:, :, :END] = steps[:, :, END + 1 :] = float("-inf")
        size = steps.shape[-1]
        totals = (scores.unsqueeze(2) + steps).flatten(1)
        top, index = totals.topk(min(2 * beam, totals.shape[1]))
        origin, token = index // size, index % size
        ends = (token == END) & top.isfinite()
        for row, column in ends[:, :beam].nonzero().tolist():
            sentence, score = alive[row], top[row, column].item() / length
            finished[sentence] += 1
            if score > best_scores[sentence]:
                best_scores[sentence] = score
                best[sentence] = [*tokens[row, origin[row, column], 1:].tolist(), END]
        rows = [row for row, sentence in enumerate(alive) if finished[sentence] < beam]
        if length > longest or not rows:
            break
        # Open hypotheses in their order, the best first: there are `beam` among twice as many, since each has one end.
        open_ = top.masked_fill(ends, float("-inf"))
        scores, column = open_.topk(min(beam, open_.shape[1]))
        origin, token = origin.gather(1, column), token.gather(1, column)
        kept = torch.tensor(rows, device=device)
        scores, origin, token = scores[kept], origin[kept], token[kept]
        hypotheses = (kept.unsqueeze(1) * tokens.shape[1] + origin).flatten()
        tokens = torch.cat([tokens.flatten(0, 1)[hypotheses].view(*token.shape, -1), token.unsqueeze(2)], 2)
        past = [each[hypotheses] for each in past]
        memory, hidden = memory[kept], hidden[kept]
        alive = [alive[row] for row in rows]
    return best


@torch.no_grad()
def translate(
    model: Any, sources: Sequence[Sequence[int]], *, beam: int = 5, tokens: int = 4096, device: str = "cpu"
) -> list[list[int]]:
    """Translate many sentences in minibatches of about the same length, in eval mode, and return them in their order.

    A translation has at most 1.2 times as many tokens as the longest source of its minibatch, and 10 more.

    Args:
        model: a ``TranslationTransformer``, left in the mode it was in.
        sources: tokens of each sentence.
        beam: hypotheses a sentence. Default 5.
        tokens: most tokens of a minibatch: its sentences times the longest. Default 4096.
        device: where the model is. Default "cpu".

    """
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    found: dict[int, list[int]] = {}
    with _evaluating(model):
        for start, end in cut([(len(sources[i]),) for i in order], tokens):
            batch = order[start:end]
            source = filled([sources[i] for i in batch]).to(device)
            longest = int(1.2 * source.shape[1] + 10)
            found.update(zip(batch, beam_search(model, source, beam, longest), strict=True))
    return [found[i] for i in range(len(sources))]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
