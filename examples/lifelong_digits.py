"""Ten digits, two at a time: what is left of the first when the last have been learnt? About 15 seconds on one core.

pip install ".[lab]" && python examples/lifelong_digits.py

Five tasks are learnt one after the other, with a memory of a few images for all but the first method. Accuracy is told
after each task, on the tasks so far; forgetting is what was lost at the end.
"""

import argparse

import torch

from lookbehind import Lookbehind
from lookbehind.data import load
from lookbehind.lifelong import (
    LookaheadCMAML,
    LookbehindCMAML,
    Replay,
    Reservoir,
    average_accuracy,
    forgetting,
    learn,
    split,
)
from lookbehind.models import lifelong_conv2

if __name__ == "__main__":
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3, help="of each task")
    parser.add_argument("--memory", type=int, default=50, help="images that are kept")
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    data = load("digits", seed=args.seed, train=300, stratified=True)
    stream = split(data, tasks=5, ways=2, seed=args.seed)

    def replay(model, memory, lookbehind=False):
        optimizer = torch.optim.SGD(model.parameters(), lr=args.lr)
        if lookbehind:
            optimizer = Lookbehind(optimizer, rho=0.05, k=2, alpha=0.5)
        return Replay(model, optimizer, Reservoir(memory), stream.ways)

    methods = {
        "SGD": lambda model: replay(model, 0),
        "ER + SGD": lambda model: replay(model, args.memory),
        "ER + Lookbehind-SAM": lambda model: replay(model, args.memory, lookbehind=True),
        "Lookahead-C-MAML": lambda m: LookaheadCMAML(m, Reservoir(args.memory), stream.ways, lr=args.lr),
        "Lookbehind-C-MAML": lambda m: LookbehindCMAML(m, Reservoir(args.memory), stream.ways, lr=args.lr, rho=0.1),
    }
    for name, learner_of in methods.items():
        torch.manual_seed(args.seed)
        learner = learner_of(lifelong_conv2(classes=stream.classes))
        learnt = learn(learner, stream, epochs=args.epochs, seed=args.seed)
        after = " ".join(f"{average_accuracy(learnt.matrix[:t]):5.1f}" for t in range(1, 6))
        print(f"{name:20} {after}   forgetting {forgetting(learnt.matrix):5.1f}", flush=True)
