"""BLEU (Papineni et al., 2002) of a corpus, by sacrebleu; tokens by sacremoses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any


def detokenised_bleu(translations: Sequence[str], references: Sequence[str]) -> float:
    """Return sacrebleu's score of plain text, with its own tokens ("13a") and case as it is.

    Example:
        >>> round(detokenised_bleu(["The cat sees the red ball."], ["The cat sees the new ball."]), 2)
        48.89

    """
    from sacrebleu import corpus_bleu

    return float(corpus_bleu(list(translations), [list(references)]).score)


def tokenised_bleu(translations: Sequence[str], references: Sequence[str]) -> float:
    """Return the score of lowercased tokens, as papers on IWSLT'14 report it. The tokens are Moses's of English.

    Example:
        >>> round(tokenised_bleu(["The cat sees THE ball."], ["the Cat sees the ball ."]), 2)
        100.0

    """
    from sacrebleu import corpus_bleu

    tokens = [[tokenised(sentence) for sentence in side] for side in (translations, references)]
    return float(corpus_bleu(tokens[0], [tokens[1]], tokenize="none", force=True).score)


def tokenised(sentence: str) -> str:
    """Return a sentence in small letters, with spaces between its tokens.

    Example:
        >>> tokenised("Hello, don't go!")
        "hello , don 't go !"

    """
    tokens: str = _moses().tokenize(sentence.lower(), return_str=True, escape=False)
    return tokens


@cache
def _moses() -> Any:
    from sacremoses import MosesTokenizer

    return MosesTokenizer("en")
