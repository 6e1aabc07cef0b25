"""Hugging Face Accelerate: handwritten digits, gradient accumulation, Lookbehind around SGD. About 5 seconds.

pip install ".[lab,trainers]" && python examples/accelerate_digits.py        # or accelerate launch

A prepared optimizer passes a closure on. Mind that:

* All micro-batches of a step belong in the closure, as below. ``accelerator.accumulate`` would drop them: it calls the
  closure with the last of each ``gradient_accumulation_steps`` only. Leave that setting at 1.
* A prepared optimizer's ``step`` returns None: the loss at the unperturbed weights is that of the first pass.
* With ``mixed_precision="fp16"`` do not prepare the optimizer; call ``optimizer.step(closure,
  grad_scaler=accelerator.scaler)`` and ``accelerator.scaler.update()``.
"""

import argparse
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset

from lookbehind import Lookbehind
from lookbehind.data import load_digits
from lookbehind.models import ConvNet

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--parts", type=int, default=2, help="micro-batches of a step")
    parser.add_argument("--folder", default="accelerate-digits", help="where a checkpoint goes after each epoch")
    parser.add_argument("--resume", type=int, default=0, help="number of the epoch to go on after")
    args = parser.parse_args()
    torch.manual_seed(0)
    accelerator, digits, model = Accelerator(), load_digits(), ConvNet()
    train = TensorDataset(digits.train_images, digits.train_labels)
    optimizer = Lookbehind(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=0.1, k=2)
    model, optimizer, loader = accelerator.prepare(model, optimizer, DataLoader(train, batch_size=50, shuffle=True))
    if args.resume:
        accelerator.load_state(f"{args.folder}/{args.resume}")
    for epoch in range(args.resume + 1, args.epochs + 1):
        for images, labels in loader:
            parts, losses = list(zip(images.chunk(args.parts), labels.chunk(args.parts), strict=True)), []

            def closure():
                optimizer.zero_grad()
                losses.append(0.0)
                for number, (inputs, targets) in enumerate(parts, start=1):
                    with accelerator.no_sync(model) if number < len(parts) else nullcontext():
                        loss = torch.nn.functional.cross_entropy(model(inputs), targets, reduction="sum") / len(labels)
                        accelerator.backward(loss)
                        losses[-1] += loss.detach()
                accelerator.clip_grad_norm_(model.parameters(), 5.0)  # each pass's gradient
                return losses[-1]

            optimizer.step(closure)
        accelerator.print(f"epoch {epoch}: loss {losses[0]:.3f}, at the perturbed weights {losses[-1]:.3f}")
        accelerator.save_state(f"{args.folder}/{epoch}")
    digits = digits.to(accelerator.device)
    right = accelerator.unwrap_model(model).eval()(digits.test_images).argmax(1) == digits.test_labels
    accelerator.print(f"test accuracy {100 * right.float().mean():.1f} %")
