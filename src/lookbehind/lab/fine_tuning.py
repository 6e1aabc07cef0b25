"""Fine-tuning of a pretrained net as data: which texts or images, which net, how much of it is trained, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lookbehind.lab.frozen import Count, Declared, NonNegative, Positive


class FineTuning(Declared):
    """A pretrained net, the data that it is fine-tuned on, and the recipe.

    Two parameter groups are trained: the body, or the adapters in it, and the head. Of the method's ρ the head has
    ``head_radius`` times as much.
    """

    inputs: Literal["texts", "images"]
    dataset: str  # a name in fine_tuning.TEXTS or in data.DATASETS
    model: str  # of texts a name in fine_tuning.ENCODERS or a folder, of images a name in models.MODELS
    weights: str | None = None  # of an image model: a file or timm's name. None: not pretrained
    new_head: bool = False  # the head of these weights is for other classes, and is left out
    train: Count | None = None
    validation: Annotated[int, Field(ge=0)] | None = None
    test: Count | None = None
    noise: Annotated[float, Field(ge=0, le=1)] = 0.0  # fraction of the training labels drawn anew
    augment: bool = True  # images
    length: Annotated[int, Field(ge=3)] = 16  # tokens of a text at most
    frozen: Annotated[int, Field(ge=0)] = 0  # lower layers of a text encoder that stay as they are
    adapters: Count | None = None  # rank of the adapters; None: the whole body is trained
    base: Literal["sgd", "adamw"] = "sgd"
    epochs: Count
    batch: Count
    lr: Positive
    head_rate: Positive = 1.0  # times ``lr`` is the head's
    head_radius: NonNegative = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9  # of SGD
    weight_decay: NonNegative = 1e-4
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: Annotated[int, Field(ge=0)] = 0  # first epochs, in which the learning rate climbs to ``lr``

    @model_validator(mode="after")
    def _fitting(self) -> FineTuning:
        if self.inputs == "texts" and (self.weights is not None or self.new_head):
            raise ValueError("weights and new_head are for images; a text encoder brings its weights, and has no head")
        if self.inputs == "images" and self.frozen:
            raise ValueError(f"frozen is {self.frozen}; it is for texts, and an image model is frozen by adapters")
        if self.new_head and self.weights is None:
            raise ValueError("new_head is True; without weights every head is new")
        return self

    @property
    def title(self) -> str:
        """Return its name in a sentence."""
        return f"{self.dataset}, {self.model}{'' if self.adapters is None else ', adapters'}"

    @property
    def pretrained_head(self) -> bool:
        """Return whether the head is pretrained too, so that the net can be used as it is."""
        return self.weights is not None and not self.new_head

    def for_epochs(self, epochs: int) -> FineTuning:
        """Return the same for another number of epochs, the warm-up in proportion."""
        return self.model_copy(update={"epochs": epochs, "warmup": round(self.warmup * epochs / self.epochs)})
