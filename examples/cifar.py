"""A whole training script in one file, for CIFAR, or for the digits in seconds. Killed at any moment, it goes on.

pip install ".[lab]" && python examples/cifar.py --data digits            about 5 seconds
python examples/cifar.py --data cifar10 --model wrn-28-2 --epochs 200     downloads it; the paper's setting

A checkpoint is written after each epoch: model, optimizer with its base's state, schedule, place in the data, epoch. A
resumed run ends bit for bit where an undisturbed one ends. With other arguments it is refused: it would be neither run.
(With dropout, keep ``torch.get_rng_state()`` in it too.)
"""

import argparse
from pathlib import Path

import torch

from lookbehind import Lookbehind, checkpoint
from lookbehind.data import load
from lookbehind.models import build

if __name__ == "__main__":
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data", default="cifar10", choices=("cifar10", "cifar100", "fashion-mnist", "digits"))
    parser.add_argument("--folder", type=Path, help="where the data are or shall be")
    parser.add_argument("--model", default="convnet", help="convnet, wrn-28-2, resnet34, ...")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--rho", type=float, default=0.05, help="length of a climb")
    parser.add_argument("--k", type=int, default=2, help="climbs a step")
    parser.add_argument("--alpha", type=float, default=0.8, help="step size of the slow weights")
    parser.add_argument("--checkpoint", type=Path, default="cifar.pt")
    args = parser.parse_args()
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = load(args.data, args.folder).to(device)
    model = build(args.model, classes=len(data.classes), channels=data.channels).to(device)
    base = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=5e-4)
    optimizer = Lookbehind(base, args.rho, args.k, args.alpha)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)
    batches, start = data.train.shuffled(args.batch), 0  # with crops and flips, as the data set says
    settings = {name: str(value) for name, value in vars(args).items() if name not in ("folder", "checkpoint")}
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "batches": batches}
    if args.checkpoint.exists():
        state = checkpoint.load(args.checkpoint)
        if changed := {name: old for name, old in state["settings"].items() if old != settings.get(name)}:
            raise SystemExit(f"{args.checkpoint} is of a run with {changed}; delete it, or name another --checkpoint")
        for name, part in parts.items():
            part.load_state_dict(state[name])
        start = state["epoch"]
        print(f"going on after epoch {start}")
    for epoch in range(start + 1, args.epochs + 1):
        model.train()
        for images, labels in batches:

            def closure():
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(model(images), labels)
                loss.backward()
                return loss

            loss = optimizer.step(closure)
        scheduler.step()
        print(f"epoch {epoch}: loss {loss:.3f}", flush=True)
        states = {name: part.state_dict() for name, part in parts.items()}
        checkpoint.save(args.checkpoint, {**states, "settings": settings, "epoch": epoch})
    with torch.no_grad():
        right = [model.eval()(images).argmax(1) == labels for images, labels in data.test.minibatches(500)]
    print(f"test accuracy {100 * torch.cat(right).float().mean():.1f} %")
