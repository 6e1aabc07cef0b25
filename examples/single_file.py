"""A whole training script in one file. Kill it at any moment, start it again, and it goes on. About 5 seconds.

pip install ".[lab]" && python examples/single_file.py

A checkpoint is written after each epoch: model, optimizer with its base's state, schedule, order of the data, epoch. A
resumed run ends bit for bit where an undisturbed one ends. (With dropout, keep ``torch.get_rng_state()`` in it too.)
"""

import argparse
from pathlib import Path

import torch

from lookbehind import Lookbehind, checkpoint
from lookbehind.data import load_digits
from lookbehind.models import ConvNet

if __name__ == "__main__":
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--rho", type=float, default=0.1, help="length of a climb")
    parser.add_argument("--k", type=int, default=2, help="climbs a step")
    parser.add_argument("--alpha", type=float, default=0.8, help="step size of the slow weights")
    parser.add_argument("--checkpoint", type=Path, default="single_file.pt")
    args = parser.parse_args()
    torch.manual_seed(0)
    digits, model = load_digits(), ConvNet()
    base = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=5e-4)
    optimizer = Lookbehind(base, args.rho, args.k, args.alpha)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)
    order, start = torch.Generator().manual_seed(0), 0
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    if args.checkpoint.exists():
        state = checkpoint.load(args.checkpoint)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        order.set_state(state["order"])
        start = state["epoch"]
        print(f"going on after epoch {start}")
    for epoch in range(start + 1, args.epochs + 1):
        for index in torch.randperm(len(digits.train_images), generator=order).split(args.batch):
            images, labels = digits.train_images[index], digits.train_labels[index]

            def closure():
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(model(images), labels)
                loss.backward()
                return loss

            loss = optimizer.step(closure)
        scheduler.step()
        print(f"epoch {epoch}: loss {loss:.3f}", flush=True)
        states = {name: part.state_dict() for name, part in parts.items()}
        checkpoint.save(args.checkpoint, {**states, "order": order.get_state(), "epoch": epoch})
    right = model.eval()(digits.test_images).argmax(1) == digits.test_labels
    print(f"test accuracy {100 * right.float().mean():.1f} %")
