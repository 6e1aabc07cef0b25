"""A callback of Lightning that refuses what would go wrong with more than one gradient a step."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler


class SharpnessAwareChecks(Callback):
    """Stop before training begins, if automatic optimization would train wrongly.

    Lightning hands ``optimizer.step`` a closure, so ``SAM``, ``MultistepSAM`` and ``Lookbehind`` work as they are, with
    ``gradient_clip_val`` acting on the gradient of each pass. Two settings do not: with gradient accumulation the
    closure holds the last micro-batch only, so the descent forgets the others, which nobody would notice; with
    ``precision="16-mixed"`` the step gets no closure at all.

    ``training_step`` runs once a pass, so what it logs mixes in the losses at the perturbed weights. The loss to log is
    what ``optimizer.step`` returns, in the module's own ``optimizer_step``.

    Raises:
        ValueError: at the start of ``fit``, with one of the two settings.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(accelerator="cpu", logger=False, callbacks=[SharpnessAwareChecks()])

    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the settings, once the optimizers are there."""
        several = [type(o).__name__ for o in trainer.optimizers if getattr(o, "needs_closure", False)]
        if not several or not pl_module.automatic_optimization:
            return
        if trainer.accumulate_grad_batches != 1 or _will_accumulate(trainer):
            raise ValueError(
                f"accumulate_grad_batches is {trainer.accumulate_grad_batches}, or a callback sets it, but Lightning's "
                f"closure holds the last micro-batch only and {several[0]} needs all; use larger batches, or manual "
                "optimization with a closure over all micro-batches"
            )
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            raise ValueError(
                f'precision is "16-mixed", whose gradient scaler knows one gradient a step while {several[0]} takes '
                'several; use "bf16-mixed" or "32-true"'
            )


def _will_accumulate(trainer: Trainer) -> bool:
    schedulers = [c for c in trainer.callbacks if isinstance(c, GradientAccumulationScheduler)]  # type: ignore[attr-defined]
    return any(c.going_to_accumulate_grad_batches() for c in schedulers)
