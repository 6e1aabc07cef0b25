"""The Transformer against a transcription of the paper, and what padding must not do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lookbehind.models import TranslationTransformer
from lookbehind.translation.batches import collate
from lookbehind.translation.loss import SmoothedCrossEntropy
from tests.translation import oracle

SOURCES, TARGETS = [[5, 6, 7, 1], [8, 1], [3, 4, 5, 6, 7, 1]], [[3, 4, 1], [6, 5, 4, 3, 1], [3, 1]]


def small(dropout: float = 0.0, layers: int = 2) -> TranslationTransformer:
    torch.manual_seed(0)
    model = TranslationTransformer(11, 7, layers=layers, width=8, feedforward=12, heads=2, dropout=dropout)
    for p in model.parameters():  # so that biases and norms matter too
        p.data += 0.1 * torch.randn_like(p)
    return model.double()


def test_parameters_of_the_papers_model() -> None:
    with torch.device("meta"):
        model = TranslationTransformer(8848, 6632)
    assert sum(p.numel() for p in model.parameters()) == 39_469_056
    assert (len(model.encoder), len(model.decoder)) == (6, 6)
    assert model.encoder[0].self_attn.num_heads == 4


def test_it_is_the_model_of_the_paper() -> None:
    model = small()
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    inputs, _ = collate(SOURCES, TARGETS)
    for i, logits in enumerate(model(inputs)):
        expected = oracle.logits(weights, SOURCES[i], [1, *TARGETS[i][:-1]], heads=2, layers=2)
        assert np.allclose(logits[: len(expected)].detach().numpy(), expected, rtol=1e-6, atol=1e-6)


def test_initial_weights() -> None:
    torch.manual_seed(1)
    model = TranslationTransformer(500, 400, layers=1, width=64, feedforward=128)
    assert model.source.weight.std().item() == pytest.approx(1 / 8, rel=0.05)
    assert not model.source.weight[0].any()
    assert not model.target.weight[0].any()
    attention = model.encoder[0].self_attn
    assert attention.out_proj.weight.abs().max().item() == pytest.approx((6 / 128) ** 0.5, rel=0.01)
    # A query's 64×64 part is drawn with gain 1/√2.
    assert attention.in_proj_weight.abs().max().item() == pytest.approx((6 / 128 / 2) ** 0.5, rel=0.01)


def gradients(model: nn.Module, source: Tensor, previous: Tensor, target: Tensor) -> tuple[Tensor, list[Tensor]]:
    model.zero_grad()
    loss = SmoothedCrossEntropy(0.1)(model((source, previous)), target)
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("longer", [1, 4])
def test_padding_changes_neither_loss_nor_gradient(longer: int) -> None:
    model = small()
    (source, previous), target = collate(SOURCES, TARGETS)
    loss, expected = gradients(model, source, previous, target)
    padded = [nn.functional.pad(side, (0, longer)) for side in (source, previous, target)]
    again, found = gradients(model, *padded)
    assert torch.allclose(again, loss, rtol=1e-12)
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(found, expected, strict=True))


def test_a_minibatch_is_its_sentences_weighted_by_their_tokens() -> None:
    model = small()
    together = gradients(model, *flat(SOURCES, TARGETS))
    each = [gradients(model, *flat([s], [t])) for s, t in zip(SOURCES, TARGETS, strict=True)]
    tokens = [len(t) for t in TARGETS]
    mean = sum(n * loss for n, (loss, _) in zip(tokens, each, strict=True)) / sum(tokens)
    assert torch.allclose(together[0], mean, rtol=1e-12)
    for i, gradient in enumerate(together[1]):
        mean = sum(n * found[i] for n, (_, found) in zip(tokens, each, strict=True)) / sum(tokens)
        assert torch.allclose(gradient, mean, rtol=1e-8, atol=1e-12)


def flat(sources: list[list[int]], targets: list[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
    (source, previous), target = collate(sources, targets)
    return source, previous, target


def test_no_place_sees_what_comes_after_it() -> None:
    model = small()
    (source, previous), _ = collate(SOURCES, TARGETS)
    changed = previous.clone()
    changed[:, 3:] = 5
    before, after = model((source, previous)), model((source, changed))
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3:], after[:, 3:])


def test_step_by_step_is_all_at_once() -> None:
    model = small(dropout=0.5).eval()
    (source, previous), _ = collate(SOURCES, [[3, 4, 5, 1], [6, 5, 4, 1], [3, 3, 3, 1]])
    with torch.no_grad():
        expected = model((source, previous))
        memory, hidden = model.encode(source)
        past: list[Tensor] = []
        for i in range(4):
            twice = previous[:, i].repeat_interleave(2)  # two hypotheses for each sentence
            logits, past = model.extend(twice, past, memory, hidden)
            assert torch.allclose(logits, expected[:, i].repeat_interleave(2, 0), rtol=1e-6)


def test_dropout_is_where_fairseq_has_it() -> None:
    """On embeddings and sublayers: two per encoder layer, three per decoder layer, and one on each embedding."""
    model = small(dropout=0.3)
    seen: list[float] = []
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda m, *_: seen.append(m.p))
    inputs, _ = collate(SOURCES, TARGETS)
    model(inputs)
    assert sorted(seen) == [0.0] * 4 + [0.3] * (2 + 2 * 2 + 2 * 3)
    assert {m.dropout for m in model.modules() if isinstance(m, nn.MultiheadAttention)} == {0.0}


def test_errors() -> None:
    with pytest.raises(ValueError, match="width is 9; an even multiple of the 3 heads"):
        TranslationTransformer(5, 5, width=9, heads=3)
    model = TranslationTransformer(5, 5, layers=1, width=8, feedforward=8, heads=2, longest=3)
    with pytest.raises(ValueError, match="a sentence has 4 tokens; at most 3 are allowed"):
        model((torch.ones(1, 4, dtype=torch.long), torch.ones(1, 1, dtype=torch.long)))
