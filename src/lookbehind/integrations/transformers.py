"""A ``Trainer`` of Hugging Face transformers for optimizers that take more than one gradient a step."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import Trainer

from lookbehind._random import random_state, set_random_state
from lookbehind.optim import AccumulatingSAM, AscentWrapper, OptimizerWrapper


class SharpnessAwareTrainer(Trainer):
    """A ``transformers.Trainer`` that hands the optimizers of this package their closure.

    ``Trainer`` computes the gradient of all micro-batches of a step and calls ``optimizer.step()``. Here the step gets
    a closure whose first call returns that gradient; later calls replay the same micro-batches at the perturbed
    weights, with the Trainer's own loss and its normalisation. With A = ``gradient_accumulation_steps``, a step of
    ``Lookbehind`` costs A (k + 1) forward and backward passes. Any other optimizer trains as it does with ``Trainer``.

    ``AccumulatingSAM`` climbs between the micro-batches of a step, and costs the A passes that ``Trainer`` costs. Its
    passes, and those of ``MomentumSAM`` and ``S2SAM``, whose first one is at perturbed weights, run within the step: no
    ``grad_norm`` is logged. ``max_grad_norm`` clips the mean that ``AccumulatingSAM`` descends with.

    ``max_grad_norm`` clips the gradient of each pass; it bounds the descents, since a climb follows a direction only.
    Logged loss and ``grad_norm`` are those at the unperturbed weights; callbacks run once a step; the reported floating
    point operations and tokens are those of the first pass. A ``Lookahead`` in the middle of a cycle is evaluated and
    saved with its fast weights.

    Args:
        *args, **kwargs: as for ``Trainer``; ``optimizers=(Lookbehind(AdamW(...)), None)`` among them.

    Raises:
        ValueError: when training begins with ``fp16`` (``bf16`` is fine), with DeepSpeed, or ``sync_ascent=False``.

    Example:
        >>> import torch
        >>> from lookbehind import Lookbehind
        >>> from transformers import BertConfig, BertForSequenceClassification, TrainingArguments
        >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
        >>> model = BertForSequenceClassification(BertConfig(vocab_size=10, **size))
        >>> optimizer = Lookbehind(torch.optim.AdamW(model.parameters(), lr=1e-3), rho=0.05, k=2)
        >>> args = TrainingArguments("unused", max_steps=2, use_cpu=True, save_strategy="no", disable_tqdm=True)
        >>> data = [{"input_ids": [1, 2, 3], "labels": 0}, {"input_ids": [4, 5, 6], "labels": 1}]
        >>> trainer = SharpnessAwareTrainer(model, args, train_dataset=data, optimizers=(optimizer, None))
        >>> result = trainer.train()  # doctest: +ELLIPSIS
        {'train_runtime': ..., 'epoch': '2'}

    """

    _hook: Any = None  # the handle of the step hook, if the optimizer is one of this package
    _batches: Sequence[Any] = ()  # the micro-batches of a step, until it is taken
    _losses: list[Tensor]  # theirs, at the unperturbed weights
    _within_step = False  # whether the step itself runs all passes
    _clip: Any = None  # the handle of the hook that clips then
    _owed: Tensor | None = None  # the loss of such a step, until it is logged

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Optimizer:
        """Set the optimizer up as ``Trainer`` does, and have it handed a closure if it is one of this package."""
        prepared = super().create_optimizer(*args, **kwargs)
        optimizer = getattr(prepared, "optimizer", prepared)  # a second train() finds it wrapped by Accelerate
        if self._hook is not None:
            self._hook.remove()
        if self._clip is not None:
            self._clip.remove()
        self._hook, self._clip, self._batches = None, None, ()
        self._within_step = isinstance(optimizer, AccumulatingSAM) or not getattr(optimizer, "returns_clean_loss", True)
        if isinstance(optimizer, AccumulatingSAM) and (self.args.max_grad_norm or 0) > 0:
            self._clip = optimizer.base.register_step_pre_hook(lambda *_: self._clip_gradients(self.model_wrapped))
        if isinstance(optimizer, OptimizerWrapper):
            if optimizer.needs_closure:
                self._refuse_unsupported(optimizer)
            self._hook = optimizer.register_step_pre_hook(self._hand_closure)
        return prepared

    def _refuse_unsupported(self, optimizer: OptimizerWrapper) -> None:
        name = type(optimizer).__name__
        if self.accelerator.scaler is not None:
            raise ValueError(
                f"fp16 is on, whose gradient scaler knows one gradient a step while {name} takes several; use bf16=True"
            )
        if self.is_deepspeed_enabled:
            raise ValueError(f"DeepSpeed is on, which steps without a closure; {name} needs one: use DDP")
        if isinstance(optimizer, AscentWrapper) and not optimizer.ascent.sync:
            raise ValueError("sync_ascent is False, but the Trainer averages the first gradient; use sync_ascent=True")

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch the micro-batches of a step as ``Trainer`` does, and keep them for the passes to come."""
        batches, items = super().get_batch_samples(*args, **kwargs)
        self._batches, self._items, self._losses = [copy.copy(batch) for batch in batches], items, []
        return batches, items

    def training_step(self, model: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """Run forward and backward on a micro-batch as ``Trainer`` does."""
        if self._hook is None or not self._batches:  # no step, or a later pass of one
            return super().training_step(model, *args, **kwargs)
        if self._within_step:
            return torch.zeros((), device=self.args.device)
        if not self._losses:
            self._random_before = random_state(p.device for p in model.parameters())
        loss = super().training_step(model, *args, **kwargs)
        self._losses.append(loss)
        return loss

    def _hand_closure(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Before ``optimizer.step``, as its hook: put the closure in its arguments."""
        batches, self._batches, losses = self._batches, (), self._losses
        if not batches:  # a step that is not the Trainer's
            return None
        if self._within_step:
            self._owed = None
            if isinstance(optimizer, AccumulatingSAM):
                return (optimizer, [partial(self._micro_batch, batch, len(batches)) for batch in batches]), kwargs
            return (optimizer, partial(self._first_pass, batches)), kwargs
        random_after = random_state(p.device for p in self.model_wrapped.parameters())
        set_random_state(self._random_before)  # the step shall find what it would if its first pass were yet to come

        def closure() -> Tensor:
            if not losses:
                return self._replay(batches)
            loss = torch.stack(losses).sum()
            losses.clear()
            set_random_state(random_after)
            return loss

        return (optimizer, closure), kwargs

    def _replay(self, batches: Sequence[Any]) -> Tensor:
        """Compute the gradient of the step's micro-batches at the weights that the model holds; return the loss."""
        model, losses = self.model_wrapped, []
        model.zero_grad()
        for number, batch in enumerate(batches, start=1):
            # Processes average their gradients once, with the last micro-batch.
            with self.accelerator.no_sync(model) if number < len(batches) else nullcontext():
                losses.append(self.training_step(model, copy.copy(batch), self._items))
        if (self.args.max_grad_norm or 0) > 0:
            self._clip_gradients(model)
        return torch.stack(losses).sum()

    def _micro_batch(self, batch: Any, number: int) -> Tensor:
        """Compute the gradient of one of a number of micro-batches, as large as if it were the only one."""
        model = self.model_wrapped
        model.zero_grad()
        loss = self.training_step(model, copy.copy(batch), self._items)
        for p in model.parameters():
            if p.grad is not None:
                p.grad.mul_(number)  # the step takes the mean, and the Trainer's losses add up
        self._owed = loss if self._owed is None else self._owed + loss
        return loss * number

    def _first_pass(self, batches: Sequence[Any]) -> Tensor:
        """Compute the gradient of a step whose first pass is its own; the loss to log is that of the first."""
        loss = self._replay(batches)
        self._owed = loss if self._owed is None else self._owed
        return loss

    def _clip_gradients(self, model: nn.Module) -> None:
        self.accelerator.clip_grad_norm_(model.parameters(), self.args.max_grad_norm)

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        """Clip as ``Trainer`` does, before the step; where the step runs the passes there is no gradient yet."""
        return None if self._within_step else super()._clip_grad_norm(model)

    def _maybe_log_save_evaluate(self, tr_loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Log as ``Trainer`` does, the losses of passes within the step among the others."""
        if self._owed is not None:
            tr_loss += self._owed
            self._owed = None
        super()._maybe_log_save_evaluate(tr_loss, *args, **kwargs)
