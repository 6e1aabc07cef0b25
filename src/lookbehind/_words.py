"""Words that a user got wrong."""

from __future__ import annotations

from collections.abc import Iterable


def allowed(word: str, words: Iterable[str]) -> str:
    """Return what is allowed in place of a word, and which one was probably meant.

    Example:
        >>> allowed("restnet8", ["convnet", "resnet8"]), allowed("x", ["a", "b"])
        ('did you mean resnet8? Allowed are convnet, resnet8', 'allowed are a, b')

    """
    from difflib import get_close_matches  # a mistake may take its time

    words = list(words)
    near = get_close_matches(word, words, 1)
    everything = ", ".join(words)
    return f"did you mean {near[0]}? Allowed are {everything}" if near else f"allowed are {everything}"
