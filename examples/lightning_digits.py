"""Lightning, automatic optimization: handwritten digits, a small conv net, Lookbehind around SGD. About 5 seconds.

pip install ".[lab,trainers]" && python examples/lightning_digits.py

Lightning passes a closure to ``optimizer.step``, so each step takes its k + 1 gradients. Mind that:

* ``training_step`` and the hooks around it (on_before_zero_grad, on_after_backward, on_before_optimizer_step) run once
  a pass: what they log or count mixes in the perturbed weights. Log what ``optimizer.step`` returns, as below.
* ``gradient_clip_val`` clips the gradient of each pass. ``precision="bf16-mixed"`` works.
* ``accumulate_grad_batches`` and ``precision="16-mixed"`` cannot work; ``SharpnessAwareChecks`` refuses them.
* Lightning saves no random states. A sampler whose order follows from the epoch makes resuming exact.
"""

import argparse

import lightning.pytorch as lightning
import torch
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from lookbehind import Lookbehind
from lookbehind.data import load_digits
from lookbehind.integrations.lightning import SharpnessAwareChecks
from lookbehind.models import ConvNet


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = ConvNet()

    def training_step(self, batch):
        return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
        self.log("train_loss", optimizer.step(closure=optimizer_closure), on_epoch=True)

    def test_step(self, batch):
        self.log("accuracy", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        base = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        optimizer = Lookbehind(base, rho=0.1, k=2, alpha=0.8, model=self)  # BatchNorm follows the unperturbed weights
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.3)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--resume", help="checkpoint of an earlier run")
    parser.add_argument("--folder", default=".", help="where checkpoints go")
    args = parser.parse_args()
    torch.manual_seed(0)
    digits, model, checks = load_digits(), Classifier(), SharpnessAwareChecks()
    train = TensorDataset(digits.train_images, digits.train_labels)
    test = TensorDataset(digits.test_images, digits.test_labels)
    batches = DataLoader(train, batch_size=50, sampler=DistributedSampler(train, num_replicas=1, rank=0))
    trainer = lightning.Trainer(max_epochs=args.epochs, default_root_dir=args.folder, logger=False, callbacks=[checks])
    trainer.fit(model, batches, ckpt_path=args.resume)
    print(f"test accuracy {100 * trainer.test(model, DataLoader(test, 399), verbose=False)[0]['accuracy']:.1f} %")
