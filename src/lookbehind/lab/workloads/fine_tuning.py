"""Fine-tuning of pretrained transformers: of texts or of images, in full or by adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

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
from lookbehind.lab.build import fetched, loaded, optimizer_of
from lookbehind.lab.fine_tuning import FineTuning
from lookbehind.lab.run import Run
from lookbehind.lab.workloads import AfterEpoch, epochs_of
from lookbehind.lab.workloads.scores import accuracy_of, scores_of
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


class Tuning:
    """The training of a pretrained classifier. Lookahead's accuracies are those of its slow weights."""

    def __init__(self, run: Run, device: str) -> None:
        workload = run.workload
        assert isinstance(workload, FineTuning)
        if run.later is not None:
            raise ValueError("later is given; a fine-tuning has one method from beginning to end")
        self.workload, self.method = workload, run.method
        self.parts, self.model, head = _ready(workload, run.seed, device)
        augment = workload.augment and workload.inputs == "images"
        self.minibatches = self.parts.train.shuffled(workload.batch, seed=run.seed, augment=augment)
        base = _base(workload, run.method.rate, self.model, head)
        steps = len(self.minibatches) // run.method.minibatches * workload.epochs
        self.optimizer: Optimizer = optimizer_of(run.method, base, self.model, lambda: steps)
        set_radii(self.optimizer, workload.head_radius)
        self.scheduler = _scheduler(workload, base)
        self.history = History()
        self.data = self.parts.to_dict()
        if workload.pretrained_head:
            self.data["untouched"] = accuracy_of(
                self.model, self.optimizer, self.parts.test, workload.batch
            )  # of the checkpoint as it is

    @property
    def diverged(self) -> bool:
        """Return whether a loss or a weight is not finite."""
        return self.history.diverged

    def train(self, after_epoch: AfterEpoch) -> None:
        """Train to the end."""
        workload = self.workload

        def measured(epoch: Epoch) -> None:
            after_epoch({**asdict(epoch), **scores_of(self.model, self.optimizer, self.parts, workload.batch)})

        fit(
            self.model,
            self.optimizer,
            self.minibatches,
            epochs=workload.epochs,
            scheduler=self.scheduler,
            on_epoch=measured,
            history=self.history,
            minibatches_per_step=self.method.minibatches,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all that changes."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "minibatches": self.minibatches.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
        """Go on after the epochs of the records."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.minibatches.load_state_dict(state["minibatches"])
        self.history = History(epochs_of(records))


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


def _scheduler(workload: FineTuning, base: Optimizer) -> LRScheduler:
    """Return the learning rates, to be stepped once an epoch."""
    warmup, rest = workload.warmup, workload.epochs - workload.warmup
    then = (
        partial(ConstantLR, factor=1.0) if workload.schedule == "constant" else partial(CosineAnnealingLR, T_max=rest)
    )
    if not warmup:
        return then(base)
    return SequentialLR(base, [LinearLR(base, 1 / (warmup + 1), total_iters=warmup), then(base)], [warmup])
