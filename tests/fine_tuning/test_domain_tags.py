"""Phrases by their subject: what of a line is taken, and that nothing is both trained on and tested on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from lookbehind.data.errors import DataError
from lookbehind.data.trans_de_en import DEBIAN
from lookbehind.fine_tuning import load_texts
from lookbehind.fine_tuning.domain_tags import CLASSES, phrase, read
from lookbehind.fine_tuning.texts import balanced, phrases_of
from tests.fine_tuning.small import dictionary


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Brett {n} [constr.] :: plank; board", ("plank", "constr")),
        ("Brett {n} :: plank [constr.]", ("plank", "constr")),
        ("Brett {n} [ugs.] [constr.] :: thick (wooden) plank {n} /PL/ <planck> | planks", ("thick plank", "constr")),
        ("Brett {n} [constr.] | Bretter {pl} [constr.] :: plank | planks", ("plank", "constr")),
        ("und/oder [math.] :: and/or", ("and/or", "math")),
        ("Brett {n} [constr.] [bot.] :: plank", None),  # two subjects
        ("Brett {n} [constr.] :: plank | shelf [bot.]", None),
        ("Brett {n} | Bretter {pl} [constr.] :: plank | planks", None),  # of another sense
        ("Brett {n} [ugs.] :: plank", None),  # no subject
        ("Brett {n} [constr.] :: (plank) ; board", None),  # nothing but a remark
        ("# Brett [constr.] :: plank", None),
        ("Brett [constr.]", None),
        ("Brett [constr.] :: plank :: board", None),
    ],
)
def test_a_line(line: str, expected: tuple[str, str] | None) -> None:
    found = phrase(line)
    assert (None if found is None else (found[0], CLASSES[found[1]])) == expected


def test_a_phrase_of_two_subjects_is_left_out_and_one_that_recurs_is_taken_once(tmp_path: Path) -> None:
    path = dictionary(tmp_path, per_class=1)
    more = [
        "A [bot.] :: the Leaf-Stalk",
        "B [bot.] :: the leaf stalks",
        "C [bot.] :: green  bud",
        "D [zool.] :: Greenbud",
    ]
    path.write_text(path.read_text() + "\n".join(more))
    phrases = read(tmp_path)
    assert phrases.texts[20:] == ("the Leaf-Stalk",)
    assert phrases.labels == (*range(20), CLASSES.index("bot"))
    assert phrases.source == "trans-de-en, Version :: of the tests"


def key(text: str) -> str:
    """An independent way to say the same: letters and digits alone."""
    return "".join(c for c in text.casefold() if c.isalnum())


INSTALLED = pytest.mark.skipif(not DEBIAN.exists(), reason="Debian's package trans-de-en is not installed")


@pytest.mark.parametrize("where", ["small", pytest.param("installed", marks=INSTALLED)])
def test_no_phrase_is_both_trained_on_and_tested_on(where: str, root: Path, tmp_path: Path) -> None:
    phrases = phrases_of("domain-tags", root if where == "small" else tmp_path)
    keys = [key(text) for text in phrases.texts]
    assert len(set(keys)) == len(keys)
    if where == "installed":
        assert len(keys) > 40_000
        assert not [text for text in phrases.texts if re.search(r"[{}\[\]();|]", text)][20:]  # of unbalanced brackets
    even = balanced(phrases, seed=3)
    counts = torch.bincount(torch.tensor(even.labels))
    assert counts.unique().numel() == 1
    assert set(zip(even.texts, even.labels, strict=True)) <= set(zip(phrases.texts, phrases.labels, strict=True))
    assert balanced(phrases, seed=3) == even
    assert balanced(phrases, seed=4).texts != even.texts or where == "small"  # where all are taken


def rows(tensor: torch.Tensor) -> set[tuple[int, ...]]:
    return set(map(tuple, tensor.tolist()))


def test_the_split(root: Path) -> None:
    tokenizer = root / "weights" / "small" / "tokenizer.json"
    options = {"root": root, "validation": 40, "test": 60}
    corpus = load_texts("domain-tags", tokenizer, train=100, seed=1, **options)
    sizes = [len(part) for part in (corpus.train, corpus.validation, corpus.test)]
    assert sizes == [100, 40, 60]
    parts = [rows(part.inputs) for part in (corpus.train, corpus.validation, corpus.test)]
    assert [len(part) for part in parts] == sizes
    assert len(set.union(*parts)) == sum(sizes)
    for part in (corpus.train, corpus.validation, corpus.test):
        counts = torch.bincount(part.labels, minlength=20)
        assert counts.max() - counts.min() <= 1
        # The tokenizer knows 4 marks and 12 words before w0, w1, …: a text begins with the word of its class.
        assert torch.equal(part.inputs[:, 1] - 16, part.labels)
    smaller = load_texts("domain-tags", tokenizer, train=50, seed=1, **options)
    assert rows(smaller.train.inputs) < parts[0]
    assert rows(load_texts("domain-tags", tokenizer, train=100, seed=2, **options).test.inputs) != parts[2]
    noisy = load_texts("domain-tags", tokenizer, train=100, seed=1, noise=0.5, **options)
    assert torch.equal(noisy.train.inputs, corpus.train.inputs)
    changed = (noisy.train.labels != corpus.train.labels).sum()
    assert 30 < changed <= 50
    assert torch.equal(noisy.test.labels, corpus.test.labels)
    assert noisy.to_dict()["selection"]["noise"] == 0.5


def test_minibatches_are_cut_to_their_longest_text(root: Path) -> None:
    corpus = load_texts("domain-tags", root / "weights" / "small" / "tokenizer.json", root=root, train=40, length=12)
    assert corpus.train.inputs.shape == (40, 12)
    for inputs, _ in corpus.train.minibatches(7):
        assert inputs.shape[1] == 5  # a mark, three words, a mark
    shuffled = corpus.train.shuffled(7, seed=5)
    first, second = list(shuffled), list(shuffled)
    assert len(first) == len(shuffled) == 6
    assert rows(torch.cat([x for x, _ in first])) == rows(torch.cat([x for x, _ in second]))
    assert not torch.equal(first[0][0], second[0][0])
    again = corpus.train.shuffled(7, seed=5)
    again.load_state_dict({"epoch": 1})
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(again, second, strict=True))


def test_errors(root: Path, tmp_path: Path) -> None:
    tokenizer = root / "weights" / "small" / "tokenizer.json"
    with pytest.raises(ValueError, match="dataset is 'tags'; allowed are domain-tags"):
        load_texts("tags", tokenizer, root=root)
    with pytest.raises(ValueError, match="train is 500; a whole number from 1 to 238"):
        load_texts("domain-tags", tokenizer, root=root, train=500)
    (tmp_path / "trans-de-en").mkdir()
    (tmp_path / "trans-de-en" / "de-en").write_text("Brett [constr.] :: plank\n")
    with pytest.raises(DataError, match="has not a phrase of each subject"):
        read(tmp_path)
    (tmp_path / "trans-de-en" / "de-en").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match="cannot be read as a dictionary"):
        read(tmp_path)


def test_a_missing_dictionary_and_a_damaged_tokenizer(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookbehind.data.trans_de_en.DEBIAN", tmp_path / "nowhere")
    with pytest.raises(DataError, match="apt-get install trans-de-en"):
        read(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(DataError, match=r"tokenizer.json cannot be read as a tokenizer"):
        load_texts("domain-tags", tmp_path / "tokenizer.json", root=root)
