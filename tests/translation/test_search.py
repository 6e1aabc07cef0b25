"""Beam search against exhaustive search."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from lookbehind.models import TranslationTransformer
from lookbehind.translation.search import beam_search, translate
from lookbehind.translation.tokens import END


class Chain:
    """A toy: the next token depends on the last two and on the first token of the source, by tables."""

    def __init__(self, seed: int, size: int = 5) -> None:
        self.size = size
        generator = torch.Generator().manual_seed(seed)
        self.tables = 2 * torch.randn(4, size, size, size, generator=generator)

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        return source[:, :1].float(), source == 0

    def extend(self, last: Tensor, past: Any, memory: Tensor, hidden: Tensor) -> tuple[Tensor, list[Tensor]]:
        table = memory[:, 0].long().repeat_interleave(len(last) // len(memory))
        before = past[0] if past else torch.full_like(last, END)
        return self.tables[table, before, last], [last]


def best_of_all(model: Chain, source: int, longest: int) -> tuple[list[int], float]:
    """Try every translation of so many tokens at most."""
    found: tuple[list[int], float] = ([], float("-inf"))
    tokens = [v for v in range(model.size) if v not in (0, END)]
    for length in range(longest + 1):
        for middle in product(tokens, repeat=length):
            sentence = [*middle, END]
            before, last, total = END, END, 0.0
            for token in sentence:
                total += model.tables[source, before, last].log_softmax(0)[token].item()
                before, last = last, token
            if total / len(sentence) > found[1]:
                found = sentence, total / len(sentence)
    return found


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("longest", [0, 1, 3])
def test_a_wide_beam_finds_the_best_of_all(seed: int, longest: int) -> None:
    model = Chain(seed)
    source = torch.tensor([[2, 1], [3, 1], [1, 0]])
    found = beam_search(model, source, beam=200, longest=longest)
    assert found == [best_of_all(model, first, longest)[0] for first in (2, 3, 1)]


def test_one_hypothesis_is_greedy_and_more_find_more() -> None:
    worse = 0
    for seed in range(30):
        model = Chain(seed)
        wide, greedy = (beam_search(model, torch.tensor([[2, 1]]), beam=b, longest=6)[0] for b in (3, 1))
        before, last, path = END, END, []
        while not path or path[-1] != END:
            step = model.tables[2, before, last].clone()
            step[0] = float("-inf")
            if len(path) == 6:
                step[[2, 3, 4]] = float("-inf")
            path.append(int(step.argmax()))
            before, last = last, path[-1]
        assert greedy == path
        worse += wide != greedy
        if seed < 3:
            assert best_of_all(model, 2, 6)[1] >= mean(model, wide) - 1e-6
    assert worse  # a beam does change something


def by_lists(model: Chain, source: int, beam: int, longest: int) -> list[int]:
    """The same search of one sentence, with lists of hypotheses (tokens, log-probability)."""
    hypotheses, finished = [([END, END], 0.0)], []
    for length in range(1, longest + 2):
        grown = []
        for tokens, total in hypotheses:
            steps = model.tables[source, tokens[-2], tokens[-1]].log_softmax(0).tolist()
            allowed = [END] if length > longest else [v for v in range(model.size) if v != 0]
            grown += [([*tokens, v], total + steps[v]) for v in allowed]
        grown.sort(key=lambda each: -each[1])
        finished += [(total / length, tokens[2:]) for tokens, total in grown[:beam] if tokens[-1] == END]
        hypotheses = [each for each in grown if each[0][-1] != END][:beam]
        if len(finished) >= beam:
            break
    return max(finished)[1]


@pytest.mark.parametrize("beam", [1, 2, 3, 4])
def test_narrow_beams_keep_what_they_should(beam: int) -> None:
    """Sentences end at different times, and others go on without them."""
    lengths = set()
    for seed in range(25):
        model, firsts = Chain(seed), (2, 3, 1, 2)
        found = beam_search(model, torch.tensor([[first, 1] for first in firsts]), beam, longest=7)
        assert found == [by_lists(model, first, beam, 7) for first in firsts]
        lengths.add(len({len(sentence) for sentence in found}))
    assert max(lengths) > 1


def mean(model: Chain, sentence: list[int]) -> float:
    before, last, total = END, END, 0.0
    for token in sentence:
        total += model.tables[2, before, last].log_softmax(0)[token].item()
        before, last = last, token
    return total / len(sentence)


def random_model() -> TranslationTransformer:
    torch.manual_seed(3)
    model = TranslationTransformer(9, 6, layers=2, width=8, feedforward=16, heads=2)
    for p in model.parameters():
        p.data += 0.3 * torch.randn_like(p)
    return model.eval()


def test_with_the_transformer_it_finds_the_best_of_all() -> None:
    model, sources = random_model(), [[4, 5, 1], [8, 1], [3, 3, 7, 1]]
    for i, source in enumerate(sources):
        scores = {}
        for length in range(4):
            for middle in product(range(2, 6), repeat=length):
                previous = torch.tensor([[END, *middle]])
                with torch.no_grad():
                    logp = model((torch.tensor([source]), previous))[0].log_softmax(-1)
                sentence = [*middle, END]
                scores[tuple(sentence)] = logp.gather(1, torch.tensor([sentence]).T).mean().item()
        padded = torch.tensor([s + [0] * (4 - len(s)) for s in sources])
        found = beam_search(model, padded, beam=200, longest=3)[i]
        assert tuple(found) == max(scores, key=scores.__getitem__)


def test_sentences_do_not_disturb_each_other() -> None:
    """Each alone, in minibatches, and in another order: the same translations. The mode is as before."""
    model = random_model()
    model.train()
    sources = [[v, *range(2, 2 + n), 1] for v in (4, 5, 6) for n in (0, 2, 5)]
    alone = [translate(model, [source], beam=3)[0] for source in sources]
    assert model.training
    longest = max(map(len, alone))
    assert longest <= int(1.2 * 7 + 10) + 1
    together = translate(model, sources, beam=3, tokens=15)
    backwards = translate(model, sources[::-1], beam=3, tokens=15)[::-1]
    assert together == backwards == alone


def test_errors() -> None:
    with pytest.raises(ValueError, match="beam is 0"):
        beam_search(Chain(0), torch.tensor([[2, 1]]), beam=0)
