"""Translation from German to English as data: which pairs, which Transformer, and how it is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lookbehind.lab.frozen import Count, Frozen, NonNegative, Positive


class Translation(Frozen):
    """Sentence pairs, a Transformer, and its recipe. The defaults are the paper's, of fairseq's for IWSLT'14.

    The base optimizer is Adam with decoupled weight decay. Each of its steps moves the learning rate, so also the inner
    ones of a Lookbehind.
    """

    dataset: Literal["iwslt14", "trans-de-en", "sentences"]
    train: Count | None = None  # number of training pairs; None: all that are not held out
    validation: Annotated[int, Field(ge=0)] | None = None
    test: Count | None = None
    shortest: Count = 1  # words of a side
    longest: Count = 175
    frequent: Count | None = None  # only pairs of so many most frequent words of each language
    lowercase: bool = True
    pieces: Count = 10_000  # of byte-pair encoding, for both languages together
    layers: Count = 6  # of the encoder, and of the decoder
    width: Count = 512
    feedforward: Count = 1024
    heads: Count = 4
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    epochs: Count
    tokens: Count = 4096  # of a minibatch at most, padding included
    lr: Positive = 5e-4
    warmup: Count = 4000  # steps
    weight_decay: NonNegative = 1e-4
    label_smoothing: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    beam: Count = 5
    score: Literal["tokenised", "detokenised"] = "tokenised"  # BLEU

    @model_validator(mode="after")
    def _fitting(self) -> Translation:
        if self.width % 2 or self.width % self.heads:
            raise ValueError(f"width is {self.width}; an even multiple of the {self.heads} heads is needed")
        if self.shortest > self.longest:
            raise ValueError(f"shortest is {self.shortest} and longest {self.longest}; shortest ≤ longest is needed")
        return self

    @property
    def title(self) -> str:
        """Return its name in a sentence."""
        return f"{self.dataset}, Transformer of {2 * self.layers} layers"

    def for_epochs(self, epochs: int) -> Translation:
        """Return the same for another number of epochs. Learning rates count steps, and stay what they are."""
        return self.model_copy(update={"epochs": epochs})
