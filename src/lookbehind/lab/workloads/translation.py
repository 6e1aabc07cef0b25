"""Translation: a Transformer from scratch, BLEU after each epoch, and the weights of the best validation BLEU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from lookbehind.data import default_root
from lookbehind.lab.build import optimizer_of
from lookbehind.lab.run import Run
from lookbehind.lab.translation import Translation
from lookbehind.lab.workloads.trainer import EpochTrainer
from lookbehind.models import TranslationTransformer
from lookbehind.training import Epoch, History, fit
from lookbehind.translation.batches import Minibatches
from lookbehind.translation.bleu import detokenised_bleu, tokenised_bleu
from lookbehind.translation.corpus import Corpus, find, load
from lookbehind.translation.loss import SmoothedCrossEntropy
from lookbehind.translation.pairs import Pair
from lookbehind.translation.schedule import inverse_square_root
from lookbehind.translation.search import translate
from lookbehind.translation.tokens import Dictionaries, dictionaries

BETAS, EPS = (0.9, 0.98), 1e-8  # of Adam


def fetch(workload: Translation) -> None:
    """Find the pairs, and the libraries that they need."""
    find(workload.dataset, default_root())
    check_libraries()


def check_libraries() -> None:
    """See that sentencepiece, sacrebleu and sacremoses are there.

    Raises:
        ValueError: if one is not.

    """
    try:
        import sacrebleu  # noqa: F401
        import sacremoses  # noqa: F401
        import sentencepiece  # noqa: F401
    except ImportError as error:
        raise ValueError(f'{error.name} is not installed: pip install ".[text]" in the clone') from error


def training(run: Run, device: str) -> Translating:
    """Return the training of a run."""
    return Translating(run, device)


class Unchanged:
    """The data of a run, as a part that does not change: another corpus or encoding is no continuation."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def state_dict(self) -> dict[str, Any]:
        """Return what the data are."""
        return self.data

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Compare.

        Raises:
            ValueError: if the pairs or their encoding have changed.

        """
        if state != self.data:
            raise ValueError("the sentence pairs, or their encoding, are not those of the checkpoint")


class Best:
    """The weights of the best validation score, once there is one."""

    def __init__(self) -> None:
        self.score = float("-inf")
        self.weights: dict[str, Tensor] = {}

    def see(self, score: float | None, weights: Mapping[str, Tensor]) -> None:
        """Keep a copy of weights that are better than all before."""
        if score is not None and score > self.score:
            self.score, self.weights = score, {name: value.clone() for name, value in weights.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return score and weights."""
        return dict(vars(self))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a saved state."""
        vars(self).update(state)


class Translating(EpochTrainer):
    """The training of a translation model. At its end the model has the weights of the best validation BLEU.

    Scores of Lookahead are those of its slow weights.
    """

    def __init__(self, run: Run, device: str) -> None:
        workload = run.workload
        assert isinstance(workload, Translation)
        check_libraries()
        self.workload, self.method, self.device = workload, run.method, device
        self.corpus, self.tokens = _ready(_corpus_fields(workload), workload.pieces, run.seed, default_root())
        encoded = self._encoded(self.corpus.train)
        self.minibatches = Minibatches(*encoded, workload.tokens, run.seed, device)
        torch.manual_seed(run.seed)
        self.model = TranslationTransformer(
            len(self.tokens.source),
            len(self.tokens.target),
            layers=workload.layers,
            width=workload.width,
            feedforward=workload.feedforward,
            heads=workload.heads,
            dropout=workload.dropout,
        ).to(device)
        base = AdamW(
            self.model.parameters(),
            lr=workload.lr * run.method.rate,
            betas=BETAS,
            eps=EPS,
            weight_decay=workload.weight_decay,
            fused=True,
        )
        self.schedule = inverse_square_root(base, workload.warmup)
        self.optimizer: Optimizer = optimizer_of(run.method, base, self.model)
        self.history = History()
        self.best = Best()
        self.data = {
            "pairs": [len(part) for part in (self.corpus.train, self.corpus.validation, self.corpus.test)],
            "sentences": self.corpus.digest,
            "pieces": [len(self.tokens.source), len(self.tokens.target)],
            "encoding": self.tokens.digest,
            "minibatches": len(self.minibatches),
            "parameters": sum(p.numel() for p in self.model.parameters()),
        }

    def fit(self, on_epoch: Callable[[Epoch], None]) -> None:
        """Train to the end, and go back to the best weights."""
        fit(
            self.model,
            self.optimizer,
            self.minibatches,
            epochs=self.workload.epochs,
            loss=SmoothedCrossEntropy(self.workload.label_smoothing),
            on_epoch=on_epoch,
            history=self.history,
            minibatches_per_step=self.method.minibatches,
        )
        if self.best.weights and not self.diverged:
            self.model.load_state_dict(self.best.weights)

    def scores(self) -> dict[str, float | None]:
        """Return BLEU on validation and test pairs, and keep weights that are the best so far."""
        with getattr(self.optimizer, "slow_weights", nullcontext)():
            scores = {"validation": self.score(self.corpus.validation), "test": self.score(self.corpus.test)}
            self.best.see(scores["validation"], self.model.state_dict())
        return scores

    def score(self, pairs: Sequence[Pair]) -> float | None:
        """Return the BLEU of the model's translations; None if there is nothing to translate."""
        if not pairs:
            return None
        sources, _ = self._encoded(pairs)
        workload = self.workload
        tokens = 4 * workload.tokens  # a search keeps no activations for gradients
        found = translate(self.model, sources, beam=workload.beam, tokens=tokens, device=self.device)
        bleu = tokenised_bleu if workload.score == "tokenised" else detokenised_bleu
        return bleu([self.tokens.target.decode(each) for each in found], [target for _, target in pairs])

    def parts(self) -> dict[str, Any]:
        """Return model, optimizer, learning rates, minibatches and the best weights, and what the data are."""
        return {
            "data": Unchanged(self.data),
            "model": self.model,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "minibatches": self.minibatches,
            "best": self.best,
        }

    def _encoded(self, pairs: Sequence[Pair]) -> tuple[list[list[int]], list[list[int]]]:
        source, target = self.tokens.source, self.tokens.target
        return [source.encode(german) for german, _ in pairs], [target.encode(english) for _, english in pairs]


def _corpus_fields(w: Translation) -> tuple[Any, ...]:
    return w.dataset, w.train, w.validation, w.test, (w.shortest, w.longest), w.frequent, w.lowercase


@lru_cache(maxsize=3)
def _ready(corpus: tuple[Any, ...], pieces: int, seed: int, root: Path) -> tuple[Corpus, Dictionaries]:
    """Return pairs and dictionaries. Those of three seeds are kept, for runs that share them."""
    dataset, train, validation, test, words, frequent, lowercase = corpus
    pairs = load(
        dataset,
        root,
        seed=seed,
        train=train,
        validation=validation,
        test=test,
        words=words,
        frequent=frequent,
        lowercase=lowercase,
    )
    return pairs, dictionaries(pairs.train, pieces)
