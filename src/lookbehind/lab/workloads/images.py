"""Classification of images: epochs of minibatches, and accuracies after each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lookbehind.data import default_root
from lookbehind.data.parts import Shuffled
from lookbehind.lab.build import data_of, fetched, loss_of, of_images, segments, trainer_of
from lookbehind.lab.run import Run, Workload
from lookbehind.lab.workloads import AfterEpoch, epochs_of
from lookbehind.lab.workloads.scores import scores_of
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


class Images:
    """The training of an image classifier. Validation and test accuracy of Lookahead are those of its slow weights."""

    def __init__(self, run: Run, device: str) -> None:
        workload = of_images(run)
        self.run, self.workload, self.device = run, workload, device
        self.parts = data_of(run, device)
        self.data = self.parts.to_dict()
        self.minibatches = self.parts.train.shuffled(workload.batch, seed=run.seed, augment=workload.augment)
        self.shares: Iterable[tuple[Tensor, Tensor]] = self.minibatches
        if dist.is_available() and dist.is_initialized():
            self.shares = Shares(self.minibatches, workload.batch)
        self.history = History()
        self.trainer = trainer_of(run, self.parts, device)

    @property
    def model(self) -> nn.Module:
        """Return the model that is trained."""
        return self.trainer.model

    @property
    def diverged(self) -> bool:
        """Return whether a loss or a weight is not finite."""
        return self.history.diverged

    def train(self, after_epoch: AfterEpoch) -> None:
        """Train each method of the run until its last epoch."""

        def measured(epoch: Epoch) -> None:
            scores = scores_of(self.model, self.trainer.optimizer, self.parts, self.workload.batch)
            after_epoch({**asdict(epoch), **scores})

        trainer, parallel = self.trainer, self._parallel()
        for method, end in segments(self.run):
            if end < len(self.history.epochs):
                continue
            if method != trainer.method:
                trainer.change(method)
            fit(
                parallel,
                trainer.optimizer,
                self.shares,
                epochs=end,
                loss=loss_of(self.workload),
                scheduler=trainer.scheduler,
                on_epoch=measured,
                history=self.history,
                minibatches_per_step=method.minibatches,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all that changes."""
        trainer = self.trainer
        return {
            "model": trainer.model.state_dict(),
            "optimizer": trainer.optimizer.state_dict(),
            "scheduler": trainer.scheduler.state_dict(),
            "minibatches": self.minibatches.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
        """Go on with the method of the last epoch that is done."""
        trainer = trainer_of(self.run, self.parts, self.device, epoch=len(records) - 1)
        trainer.model.load_state_dict(state["model"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        trainer.scheduler.load_state_dict(state["scheduler"])
        self.minibatches.load_state_dict(state["minibatches"])
        self.history = History(epochs_of(records))
        self.trainer = trainer

    def _parallel(self) -> nn.Module:
        """Return the model as the processes train it together, if there are several."""
        if self.shares is self.minibatches:
            return self.model
        if torch.device(self.device).type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(self.model)  # in place: no model here is a batch norm itself
            return DistributedDataParallel(self.model, device_ids=[torch.device(self.device).index])
        return DistributedDataParallel(self.model)
