"""SAM around Muon, which orthogonalises the steps of matrices; AdamW trains the biases.

pip install ".[lab]" && python examples/muon_digits.py        needs torch 2.9 or newer; some seconds on one core
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn

from lookbehind import SAM, MomentumSAM

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", choices=["sam", "momentum_sam"], default="sam")
    parser.add_argument("--epochs", type=int, default=5)
    args = parser.parse_args()
    if not hasattr(torch.optim, "Muon"):
        raise SystemExit(f"torch {torch.__version__} has no Muon; 2.9 is the first release with it")
    torch.manual_seed(0)
    digits = load_digits()
    images, labels = torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target)
    train, test = torch.randperm(len(labels)).split([1400, len(labels) - 1400])
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    matrices = [p for p in model.parameters() if p.ndim == 2]
    others = torch.optim.AdamW([p for p in model.parameters() if p.ndim != 2], lr=1e-3)
    base = torch.optim.Muon(matrices, lr=0.02, momentum=0.9, weight_decay=0.01)
    optimizer = SAM(base, rho=0.1) if args.method == "sam" else MomentumSAM(base, rho=0.5)

    for epoch in range(1, args.epochs + 1):
        for index in train[torch.randperm(len(train))].split(64):

            def closure() -> torch.Tensor:
                model.zero_grad()
                loss = nn.functional.cross_entropy(model(images[index]), labels[index])
                loss.backward()
                return loss

            loss = optimizer.step(closure)
            others.step()  # the biases descend with the gradient that is left: at the perturbed matrices
        print(f"epoch {epoch}: loss {loss:.3f}")
    with torch.no_grad():
        print(f"test accuracy {100 * (model(images[test]).argmax(1) == labels[test]).float().mean():.1f} %")
