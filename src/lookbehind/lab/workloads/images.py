"""Classification of images: epochs of minibatches, and accuracies after each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lookbehind.data import default_root
from lookbehind.data.parts import Shuffled
from lookbehind.lab.build import data_of, fetched, loss_of, of_images, segments, trainer_of
from lookbehind.lab.run import Run, Workload
from lookbehind.lab.workloads.scores import scores_of
from lookbehind.lab.workloads.trainer import EpochTrainer
from lookbehind.training import Epoch, History, fit


def fetch(workload: Workload) -> None:
    """Get the data."""
    fetched(workload.dataset, default_root())


class Shares:
    """Share of each of several processes in minibatches: an even part, or all of one that cannot be divided evenly.

    So the mean over processes of the mean over a part is the mean over the minibatch.

    Raises:
        ValueError: if minibatches cannot be divided evenly at all.

    """

    def __init__(self, minibatches: Shuffled, batch: int) -> None:
        self.minibatches, self.rank, self.processes = minibatches, dist.get_rank(), dist.get_world_size()
        if batch % self.processes:
            raise ValueError(f"minibatches of {batch} cannot be divided evenly over {self.processes} processes")

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for inputs, targets in self.minibatches:
            if len(targets) % self.processes:
                yield inputs, targets
            else:
                yield inputs.chunk(self.processes)[self.rank], targets.chunk(self.processes)[self.rank]


def training(run: Run, device: str) -> Images:
    """Return the training of a run."""
    return Images(run, device)


class Images(EpochTrainer):
    """The training of an image classifier. Validation and test accuracy of Lookahead are those of its slow weights."""

    def __init__(self, run: Run, device: str) -> None:
        self.run, self.workload, self.device = run, of_images(run), device
        self.examples = data_of(run, device)
        self.data = self.examples.to_dict()
        batch = self.workload.batch
        self.minibatches = self.examples.train.shuffled(batch, seed=run.seed, augment=self.workload.augment)
        self.shares: Iterable[tuple[Tensor, Tensor]] = self.minibatches
        if dist.is_available() and dist.is_initialized():
            self.shares = Shares(self.minibatches, batch)
        self.history = History()
        self.trainer = trainer_of(run, self.examples, device)
        self.model = self.trainer.model

    def fit(self, on_epoch: Callable[[Epoch], None]) -> None:
        """Train with each method of the run until its last epoch."""
        trainer, parallel = self.trainer, self._parallel()
        for method, end in segments(self.run):
            if end < len(self.history.epochs):
                continue
            trainer.change(method)
            fit(
                parallel,
                trainer.optimizer,
                self.shares,
                epochs=end,
                loss=loss_of(self.workload),
                scheduler=trainer.scheduler,
                on_epoch=on_epoch,
                history=self.history,
                minibatches_per_step=method.minibatches,
            )

    def scores(self) -> dict[str, float | None]:
        """Return the accuracies on validation and test images."""
        return scores_of(self.model, self.trainer.optimizer, self.examples, self.workload.batch)

    def parts(self) -> dict[str, Any]:
        """Return model, optimizer, learning rates and minibatches, with the method of the last epoch."""
        self.trainer.change(self.run.method_at(max(0, len(self.history.epochs) - 1)))
        return {
            "model": self.model,
            "optimizer": self.trainer.optimizer,
            "scheduler": self.trainer.scheduler,
            "minibatches": self.minibatches,
        }

    def _parallel(self) -> nn.Module:
        """Return the model as the processes train it together, if there are several."""
        if self.shares is self.minibatches:
            return self.model
        if torch.device(self.device).type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(self.model)  # in place: no model here is a batch norm itself
            return DistributedDataParallel(self.model, device_ids=[torch.device(self.device).index])
        return DistributedDataParallel(self.model)
