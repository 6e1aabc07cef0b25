"""Text classifiers against transformers' own model; padding; the two parts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lookbehind.data.errors import DataError
from lookbehind.fine_tuning import add_adapters, load_texts, text_classifier
from tests.fine_tuning.small import DIM, LAYERS, encoder

TOKENS = torch.tensor([[2, 5, 7, 9, 3, 0, 0], [2, 6, 3, 0, 0, 0, 0], [2, 4, 5, 6, 7, 8, 3]])


def whole(folder: Path, frozen: int = 0) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(*text_classifier(folder, 5, frozen=frozen)).eval()


def small(root: Path) -> Path:
    return root / "weights" / "small"


@pytest.mark.parametrize("frozen", range(LAYERS))
def test_equals_the_model_of_transformers(frozen: int, root: Path) -> None:
    """The published use of MiniLM: the mean over the tokens that are not padding."""
    from transformers import BertModel

    model = whole(small(root), frozen)
    bert = BertModel.from_pretrained(small(root)).eval()
    hidden = bert(input_ids=TOKENS, attention_mask=(TOKENS != 0).long()).last_hidden_state
    mean = torch.stack([row[: int(n)].mean(0) for row, n in zip(hidden, (TOKENS != 0).sum(1), strict=True)])
    head = model[1].head
    torch.testing.assert_close(model(TOKENS), mean @ head.weight.T + head.bias, rtol=1e-4, atol=1e-5)
    assert (mean[0] - mean[1]).abs().max() > 0.1  # the random encoder does something


@pytest.mark.parametrize("frozen", [0, 2])
def test_padding_does_not_change_outputs(frozen: int, root: Path) -> None:
    model = whole(small(root), frozen)
    alone = torch.cat([model(row[row != 0][None]) for row in TOKENS])
    torch.testing.assert_close(model(TOKENS), alone, rtol=1e-4, atol=1e-5)
    longer = nn.functional.pad(TOKENS, (0, 6))
    torch.testing.assert_close(model(longer), alone, rtol=1e-4, atol=1e-5)


def test_features_computed_once_are_those_of_every_pass(root: Path) -> None:
    lower, upper = text_classifier(small(root), 20, frozen=2)
    assert not lower.training
    assert not any(p.requires_grad for p in lower.parameters())
    assert all(p.requires_grad for p in upper.parameters())
    corpus = load_texts("domain-tags", small(root) / "tokenizer.json", root=root, train=40, test=20)
    features = corpus.mapped(lower)
    assert features.train.inputs.shape == (40, 16, DIM)
    upper.eval()
    for (tokens, labels), (inputs, same) in zip(corpus.test.minibatches(8), features.test.minibatches(8), strict=True):
        assert torch.equal(labels, same)
        torch.testing.assert_close(upper(inputs), nn.Sequential(lower, upper)(tokens), rtol=1e-4, atol=1e-5)


def test_the_head_is_drawn_from_torchs_random_state_and_the_rest_is_not(root: Path) -> None:
    one, other = whole(small(root)), whole(small(root))
    assert torch.equal(one[1].head.weight, other[1].head.weight)
    torch.manual_seed(4)
    third = nn.Sequential(*text_classifier(small(root), 5))
    state = one.state_dict()
    differing = {name for name, value in third.state_dict().items() if not torch.equal(value, state[name])}
    assert differing == {"1.head.weight"}


def test_adapters_begin_as_the_encoder(root: Path) -> None:
    model = whole(small(root))
    before: Tensor = model(TOKENS)
    added = add_adapters(model, rank=2)
    assert len(added) == 2 * 2 * LAYERS  # A and B beside query and value
    assert torch.equal(model(TOKENS), before)
    assert sum(p.requires_grad for p in model.parameters()) == len(added)


def test_names_of_older_files_fit_too(root: Path, tmp_path: Path) -> None:
    older = encoder(tmp_path / "older", prefix="bert.")
    assert torch.equal(whole(older)(TOKENS), whole(small(root))(TOKENS))


def test_errors(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen is 3; a whole number from 0 to 2"):
        text_classifier(small(root), 5, frozen=3)
    folder = encoder(tmp_path / "other")
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"model_type": "bert"', '"model_type": "roberta"'))
    with pytest.raises(DataError, match=r"config.json is of a 'roberta'; only a BERT"):
        text_classifier(folder, 5)
