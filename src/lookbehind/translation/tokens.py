"""Subwords: byte-pair encoding (Sennrich et al., 2016) by sentencepiece, and a dictionary for each language."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lookbehind.translation.pairs import Pair

PADDING, END, UNKNOWN = 0, 1, 2
SPECIAL = ("<pad>", "</s>", "<unk>")


def learnt(sentences: Iterable[str], pieces: int) -> bytes:
    """Learn an encoding from sentences: the same bytes from the same sentences.

    Args:
        sentences: of both languages.
        pieces: how many different pieces there are to be, characters among them.

    Raises:
        ValueError: if the sentences have more characters than ``pieces``, or give fewer pieces.

    """
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            model_type="bpe",
            vocab_size=pieces,
            character_coverage=1.0,
            normalization_rule_name="identity",
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ValueError(f"pieces is {pieces}, which these sentences cannot give ({reason})") from error
    return model.getvalue()


@dataclass(frozen=True)
class Dictionary:
    """The pieces of one language as numbers, from 0 for padding, 1 for the end of a sentence, 2 for what is unknown.

    Args:
        model: of ``learnt``.
        pieces: by their number.

    """

    model: bytes
    pieces: tuple[str, ...]

    def __post_init__(self) -> None:
        from sentencepiece import SentencePieceProcessor

        object.__setattr__(self, "_processor", SentencePieceProcessor(model_proto=self.model))
        object.__setattr__(self, "_numbers", {piece: i for i, piece in enumerate(self.pieces)})

    def __len__(self) -> int:
        return len(self.pieces)

    def encode(self, sentence: str) -> list[int]:
        """Return the numbers of a sentence's pieces, and of its end."""
        of: Any = self
        return [*(of._numbers.get(piece, UNKNOWN) for piece in of._processor.encode(sentence, out_type=str)), END]

    def decode(self, numbers: Sequence[int]) -> str:
        """Return the sentence, up to its end."""
        of: Any = self
        known = list(numbers[: numbers.index(END)] if END in numbers else numbers)
        decoded: str = of._processor.decode([self.pieces[number] for number in known])
        return decoded


@dataclass(frozen=True)
class Dictionaries:
    """One encoding for both languages, and of each language the pieces that its training sentences have."""

    source: Dictionary
    target: Dictionary

    @property
    def digest(self) -> str:
        """Sixteen digits that stand for both."""
        content = repr((self.source.pieces, self.target.pieces)).encode()
        return hashlib.sha256(self.source.model + content).hexdigest()[:16]


def dictionaries(pairs: Sequence[Pair], pieces: int) -> Dictionaries:
    """Learn an encoding from training pairs, and list each language's pieces, the most frequent first.

    Example:
        >>> both = dictionaries([("ein Haus", "a house"), ("ein Hut", "a hat")], 20)
        >>> both.target.decode(both.target.encode("a house"))
        'a house'

    """
    from collections import Counter

    from sentencepiece import SentencePieceProcessor

    model = learnt((side for pair in pairs for side in pair), pieces)
    processor = SentencePieceProcessor(model_proto=model)
    made = []
    for side in (0, 1):
        counts = Counter(piece for pair in pairs for piece in processor.encode(pair[side], out_type=str))
        order = sorted(counts, key=lambda piece: (-counts[piece], piece))
        made.append(Dictionary(model, (*SPECIAL, *order)))
    return Dictionaries(*made)
