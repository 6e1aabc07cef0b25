"""BLEU against sacrebleu's own command line, and by hand."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from lookbehind.translation.bleu import detokenised_bleu, tokenised, tokenised_bleu

TRANSLATIONS = [
    "The Man sees the old house, today.",
    "Does she look for 3.5 keys?",
    "It's a well-known fact (so he says) that 50% of it is gone.",
]
REFERENCES = [
    "The man sees the old house today.",
    "Does she look for the 3.5 keys?",
    "It's a well-known fact, so he says, that 50% of it are gone.",
]


def command(tmp_path: Path, translations: list[str], references: list[str], *options: str) -> float:
    (tmp_path / "hyp").write_text("\n".join(translations) + "\n")
    (tmp_path / "ref").write_text("\n".join(references) + "\n")
    files = [str(tmp_path / "ref"), "-i", str(tmp_path / "hyp")]
    done = subprocess.run(
        [sys.executable, "-m", "sacrebleu", *files, "-m", "bleu", "-w", "6", *options],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(json.loads(done.stdout)["score"])


def test_detokenised(tmp_path: Path) -> None:
    expected = command(tmp_path, TRANSLATIONS, REFERENCES)
    assert 0 < expected < 100
    assert detokenised_bleu(TRANSLATIONS, REFERENCES) == pytest.approx(expected, abs=1e-5)


def test_tokenised(tmp_path: Path) -> None:
    sides = [[tokenised(sentence) for sentence in side] for side in (TRANSLATIONS, REFERENCES)]
    expected = command(tmp_path, *sides, "--tokenize", "none", "--force")
    assert tokenised_bleu(TRANSLATIONS, REFERENCES) == pytest.approx(expected, abs=1e-5)
    assert expected > detokenised_bleu(TRANSLATIONS, REFERENCES)


@pytest.mark.parametrize(
    ("sentence", "tokens"),
    [
        ("The Man sees the old house, today.", "the man sees the old house , today ."),
        ("It's what they don't say.", "it 's what they don 't say ."),
        ("He paid $3.50 (50% off)!", "he paid $ 3.50 ( 50 % off ) !"),
        ("A well-known fact: e.g. this", "a well-known fact : e.g. this"),
        ("Say 'yes' or \"no\".", "say ' yes ' or \" no \" ."),
    ],
)
def test_tokens_are_those_of_moses(sentence: str, tokens: str) -> None:
    """By the rules of its tokenizer.perl for English: 's and 't are parted from words; hyphens and numbers stay."""
    assert tokenised(sentence) == tokens


def test_by_hand() -> None:
    """Of 7 and 8 tokens: 6/7 words, 4/6 pairs, 2/5 triples, 1/4 quadruples, and a brevity penalty."""
    found = tokenised_bleu(["a b c d x f g"], ["a b c d e f g h"])
    expected = 100 * math.exp(1 - 8 / 7) * (6 / 7 * 4 / 6 * 2 / 5 * 1 / 4) ** 0.25
    assert found == pytest.approx(expected, rel=1e-9)
