"""Texts with class numbers: chosen by a seed without leakage, as tokens or as features of frozen layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lookbehind._words import allowed
from lookbehind.data import default_root
from lookbehind.data.errors import DataError
from lookbehind.data.parts import mixed_seed
from lookbehind.data.selection import checked_noise, chosen, redrawn
from lookbehind.fine_tuning import domain_tags
from lookbehind.fine_tuning.domain_tags import Phrases

# Functions of the folder for data. TEXTS["mine"] = a function of yours.
TEXTS: dict[str, Callable[[Path], Phrases]] = {"domain-tags": domain_tags.read}


def phrases_of(dataset: str, root: Path) -> Phrases:
    """Return all phrases of a data set, read once.

    Raises:
        ValueError: if there is no data set of this name.
        DataError: a ``ValueError`` too, if its file is missing or damaged.

    """
    if dataset not in TEXTS:
        raise ValueError(f"dataset is {dataset!r}; {allowed(dataset, TEXTS)}")
    return _read(TEXTS[dataset], root)


@lru_cache(maxsize=2)
def _read(read: Callable[[Path], Phrases], root: Path) -> Phrases:
    return read(root)


@dataclass(frozen=True, eq=False)
class Texts:
    """Tokens of shape (n, length), padded with 0 at the right, or features of shape (n, length, dim), with labels."""

    inputs: Tensor
    labels: Tensor
    lengths: Tensor  # without padding, on the CPU

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Texts:
        """Return the same on a device."""
        return replace(self, inputs=self.inputs.to(device), labels=self.labels.to(device))

    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return a minibatch, no longer than its longest text."""
        length = int(self.lengths[index].max())
        index = index.to(self.labels.device)
        return self.inputs[index, :length], self.labels[index]

    def minibatches(self, batch: int) -> list[tuple[Tensor, Tensor]]:
        """Return minibatches of texts that are about equally long, so that little is padding."""
        return [self[chunk] for chunk in self.lengths.argsort(stable=True).split(batch)] if len(self) else []

    def shuffled(self, batch: int, *, seed: int = 0, augment: bool = False) -> Shuffled:
        """Return minibatches for training, in a new order each epoch. ``augment`` must be False, as texts have none.

        Raises:
            ValueError: if it is not.

        """
        if augment:
            raise ValueError("augment is True; texts have no augmentation")
        return Shuffled(self, batch, seed)

    def mapped(self, module: nn.Module, batch: int = 256) -> Texts:
        """Return the module's features of all texts, in its present mode, without gradients."""
        with torch.no_grad():
            inputs = torch.cat([module(chunk) for chunk in self.inputs.split(batch)]) if len(self) else self.inputs
        return replace(self, inputs=inputs)


class Shuffled:
    """Minibatches in an order that follows from the seed and the number of the epoch, which is the state."""

    def __init__(self, texts: Texts, batch: int, seed: int) -> None:
        self.texts, self.batch, self.seed, self.epoch = texts, batch, seed, 0

    def __len__(self) -> int:
        return -(-len(self.texts) // self.batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, "order", self.epoch))
        for chunk in torch.randperm(len(self.texts), generator=generator).split(self.batch):
            yield self.texts[chunk]
        self.epoch += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the number of the epoch."""
        return {"epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to an epoch."""
        self.epoch = state["epoch"]


@dataclass(frozen=True, eq=False)
class Corpus:
    """Texts that are ready: three parts, the names of the classes, and what was decided."""

    train: Texts
    validation: Texts
    test: Texts
    classes: tuple[str, ...]
    decided: dict[str, Any]

    def mapped(self, module: nn.Module) -> Corpus:
        """Return the same with a module's features instead of tokens."""
        return self._each(lambda part: part.mapped(module))

    def to(self, device: torch.device | str) -> Corpus:
        """Return the same on a device."""
        return self._each(lambda part: part.to(device))

    def _each(self, change: Callable[[Texts], Texts]) -> Corpus:
        return replace(self, train=change(self.train), validation=change(self.validation), test=change(self.test))

    def to_dict(self) -> dict[str, Any]:
        """Return what was decided, as plain values."""
        return self.decided


def load_texts(
    dataset: str,
    tokenizer: str | Path,
    *,
    root: str | Path | None = None,
    seed: int = 0,
    train: int | None = None,
    validation: int | None = None,
    test: int | None = None,
    noise: float = 0.0,
    length: int = 16,
) -> Corpus:
    """Read texts, choose training, validation and test texts with equally many of each class, and tokenise them.

    With one seed a smaller ``train`` takes a subset of a larger one's texts.

    Args:
        dataset: a name in ``TEXTS``.
        tokenizer: a file ``tokenizer.json``.
        root: the folder for data. Default ``lookbehind.data.default_root()``.
        seed: decides which texts are taken, which are held out, and the noise. Default 0.
        train: number of training texts. Default: half of all.
        validation: number of texts to select by. Default: half of the rest.
        test: number of test texts. Default: what is left.
        noise: fraction of the training labels that are drawn anew, uniformly over all classes. Default 0.
        length: tokens of a text at most, its beginning and end among them. Default 16.

    Returns:
        A ``Corpus`` of tokens, on the CPU.

    Raises:
        ValueError: if an argument is out of range.
        DataError: if the texts or the tokenizer are missing or damaged.

    """
    checked_noise(noise)
    phrases = balanced(phrases_of(dataset, default_root() if root is None else Path(root).expanduser()), seed)
    labels = torch.tensor(phrases.labels)
    generator = torch.Generator().manual_seed(seed)
    index = chosen(
        labels,
        None,
        train=train,
        default=None,
        validation=validation,
        test=test,
        stratified=True,
        seed=seed,
        generator=generator,
    )
    encoded = [tokens([phrases.texts[i] for i in each.tolist()], tokenizer, length) for each in index]
    noisy = redrawn(labels[index[0]], noise, len(phrases.classes), generator)
    parts = [Texts(inputs, labels[each], (inputs != 0).sum(1)) for inputs, each in zip(encoded, index, strict=True)]
    decided = {
        "selection": {
            "dataset": dataset,
            "seed": seed,
            **dict(zip(("train", "validation", "test"), map(len, index), strict=True)),
            "noise": float(noise),
            "length": length,
        },
        "classes": len(phrases.classes),
        "source": phrases.source,
    }
    return Corpus(replace(parts[0], labels=noisy), parts[1], parts[2], phrases.classes, decided)


def balanced(phrases: Phrases, seed: int) -> Phrases:
    """Return as many phrases of each class as the smallest class has, drawn with a seed."""
    labels = torch.tensor(phrases.labels)
    fewest = int(torch.bincount(labels, minlength=len(phrases.classes)).min())
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(mixed_seed(seed, "balance")))
    taken = [order[labels[order] == label][:fewest] for label in range(len(phrases.classes))]
    index = torch.cat(taken).sort().values.tolist()
    texts, numbers = tuple(phrases.texts[i] for i in index), tuple(phrases.labels[i] for i in index)
    return replace(phrases, texts=texts, labels=numbers)


def tokens(texts: list[str], tokenizer: str | Path, length: int) -> Tensor:
    """Return the tokens of texts, cut and padded with 0 to a length.

    Raises:
        DataError: if the tokenizer is missing or damaged, or its padding is not 0.

    """
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise DataError(
            "texts are cut into tokens by tokenizers, which is not installed: pip install tokenizers"
        ) from None
    try:
        cutter = Tokenizer.from_file(str(tokenizer))
    except Exception as error:  # the library raises plain Exceptions
        raise DataError(f"{tokenizer} cannot be read as a tokenizer ({error}); fetch it anew") from error
    if cutter.token_to_id("[PAD]") != 0:
        raise DataError(f"{tokenizer} has [PAD] as {cutter.token_to_id('[PAD]')}; 0 is needed, as BERT has it")
    cutter.enable_truncation(length)
    cutter.enable_padding(length=length)
    return torch.tensor([cut.ids for cut in cutter.encode_batch(texts)], dtype=torch.int64).view(-1, length)
