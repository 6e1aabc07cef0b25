"""Fine-tuning of pretrained transformers: of texts or of images, in full or by adapters."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from lookbehind.data import Data, default_root
from lookbehind.fine_tuning import (
    Corpus,
    add_adapters,
    encoder_folder,
    find_weights,
    load_texts,
    load_weights,
    parameter_groups,
    set_radii,
    text_classifier,
)
from lookbehind.fine_tuning.texts import phrases_of
from lookbehind.lab.build import fetched, loaded, optimizer_of, scheduler_of
from lookbehind.lab.fine_tuning import FineTuning
from lookbehind.lab.run import Run
from lookbehind.lab.workloads.scores import scores_of
from lookbehind.lab.workloads.trainer import EpochTrainer
from lookbehind.models import build
from lookbehind.training import Epoch, History, fit

LAYERS = {"texts": ("query", "value"), "images": ("qkv",)}  # that get adapters


def fetch(workload: FineTuning) -> None:
    """Find texts and encoder, or images and weights."""
    if workload.inputs == "texts":
        encoder_folder(workload.model)
        phrases_of(workload.dataset, default_root())
    else:
        fetched(workload.dataset, default_root())
        if workload.weights is not None:
            find_weights(workload.weights, default_root())


def training(run: Run, device: str) -> Tuning:
    """Return the training of a run."""
    return Tuning(run, device)


class Tuning(EpochTrainer):
    """The training of a pretrained classifier. Lookahead's accuracies are those of its slow weights."""

    def __init__(self, run: Run, device: str) -> None:
        workload = run.workload
        assert isinstance(workload, FineTuning)
        self.workload, self.method = workload, run.method
        self.examples, self.model, head = _ready(workload, run.seed, device)
        augment = workload.augment and workload.inputs == "images"
        self.minibatches = self.examples.train.shuffled(workload.batch, seed=run.seed, augment=augment)
        base = _base(workload, run.method.rate, self.model, head)
        steps = len(self.minibatches) // run.method.minibatches * workload.epochs
        self.optimizer: Optimizer = optimizer_of(run.method, base, self.model, lambda: steps)
        set_radii(self.optimizer, workload.head_radius)
        self.scheduler = scheduler_of(workload, base)
        self.history = History()
        self.data = self.examples.to_dict()
        if workload.pretrained_head:  # accuracy of the checkpoint as it is
            self.data["untouched"] = self.scores()["test"]

    def fit(self, on_epoch: Callable[[Epoch], None]) -> None:
        """Train to the end."""
        fit(
            self.model,
            self.optimizer,
            self.minibatches,
            epochs=self.workload.epochs,
            scheduler=self.scheduler,
            on_epoch=on_epoch,
            history=self.history,
            minibatches_per_step=self.method.minibatches,
        )

    def scores(self) -> dict[str, float | None]:
        """Return the accuracies on validation and test examples."""
        return scores_of(self.model, self.optimizer, self.examples, self.workload.batch)

    def parts(self) -> dict[str, Any]:
        """Return model, optimizer, learning rates and minibatches."""
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "minibatches": self.minibatches,
        }


def _ready(workload: FineTuning, seed: int, device: str) -> tuple[Corpus | Data, nn.Module, nn.Module]:
    """Return the data, what is trained on them, and its head. What is new is drawn from the seed."""
    w, root = workload, default_root()
    if w.inputs == "texts":
        numbers = (w.train, w.validation, w.test)
        folder = encoder_folder(w.model)
        parts: Corpus | Data = _corpus(w.dataset, seed, numbers, w.noise, w.length, folder, w.frozen, root, device)
        torch.manual_seed(seed)
        lower, upper = text_classifier(folder, len(parts.classes), frozen=w.frozen)
        model: nn.Module = upper if w.frozen else nn.Sequential(lower, upper)
        head: Any = upper.head
    else:
        parts = loaded(
            w.dataset, root, device, seed=seed, train=w.train, validation=w.validation, test=w.test, noise=w.noise
        )
        torch.manual_seed(seed)
        model = build(w.model, channels=parts.channels, classes=len(parts.classes))
        head = getattr(model, "head", None)
        if head is None:
            raise ValueError(f"model is {w.model!r}; a Vision Transformer is needed, such as vit-b-16")
        if w.weights is not None:
            load_weights(model, find_weights(w.weights, root), new=("head",) if w.new_head else ())
    if w.adapters is not None:
        add_adapters(model, LAYERS[w.inputs], rank=w.adapters)
        head.requires_grad_(True)
    return parts, model.to(device), head


# Corpora of three seeds are kept, for runs that share them.
Numbers = tuple[int | None, int | None, int | None]


@lru_cache(maxsize=3)
def _corpus(
    dataset: str,
    seed: int,
    numbers: Numbers,
    noise: float,
    length: int,
    folder: Path,
    frozen: int,
    root: Path,
    device: str,
) -> Corpus:
    """Return tokens; or features, if lower layers are frozen."""
    train, validation, test = numbers
    tokenizer = folder / "tokenizer.json"
    corpus = load_texts(
        dataset,
        tokenizer,
        root=root,
        seed=seed,
        train=train,
        validation=validation,
        test=test,
        noise=noise,
        length=length,
    ).to(device)
    if not frozen:
        return corpus
    lower, _ = text_classifier(folder, len(corpus.classes), frozen=frozen)
    return corpus.mapped(lower.to(device))


def _base(workload: FineTuning, rate: float, model: nn.Module, head: nn.Module) -> Optimizer:
    """Return SGD or AdamW over body and head, at the workload's learning rates times the method's ``rate``."""
    groups = parameter_groups(model, head, lr=workload.lr * rate, head_rate=workload.head_rate)
    if workload.base == "sgd":
        return SGD(groups, lr=workload.lr, momentum=workload.momentum, weight_decay=workload.weight_decay)
    return AdamW(groups, lr=workload.lr, weight_decay=workload.weight_decay)
