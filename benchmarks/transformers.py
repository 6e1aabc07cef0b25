"""What a step of a transformer of Table 4 costs at full size: the base, SAM, and Lookbehind with switching minibatches.

pip install -e ".[lab]"
python benchmarks/transformers.py          a few minutes on one core; the numbers are in docs/transformers.md

Random weights and minibatches of one size. Each method runs in a process of its own, for a peak of memory of its own;
it takes a first step, and the second is timed, in seconds of the processor.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from lookbehind import SAM, Lookbehind
from lookbehind.models import TranslationTransformer, vit_base
from lookbehind.translation.loss import SmoothedCrossEntropy


class Model(NamedTuple):
    """A net, its base optimizer, its loss, and a minibatch (inputs, targets) of so many examples."""

    build: Callable[[], nn.Module]
    base: Callable[[Any], torch.optim.Optimizer]
    loss: Callable[[Any, Any], Any]
    minibatch: Callable[[int], tuple[Any, Any]]
    examples: int


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=5e-4, betas=(0.9, 0.98), weight_decay=1e-4, fused=True)


def sentences(count: int) -> tuple[Any, Any]:
    """Pairs of 24 tokens a side, about the mean of IWSLT'14."""
    source, previous, target = torch.randint(3, 6632, (3, count, 24))
    return (source, previous), target


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, weight_decay=1e-4)


def images(count: int) -> tuple[Any, Any]:
    return torch.randn(count, 3, 224, 224), torch.arange(count)


MODELS = {  # one line each
    "translation": Model(lambda: TranslationTransformer(8848, 6632), adam, SmoothedCrossEntropy(0.1), sentences, 20),
    "ViT-B/16": Model(vit_base, sgd, nn.functional.cross_entropy, images, 4),
}
METHODS: dict[str, Callable[[torch.optim.Optimizer], torch.optim.Optimizer]] = {
    "base": lambda base: base,
    "SAM": lambda base: SAM(base, rho=0.1),
    "ASAM": lambda base: SAM(base, rho=0.2, perturbation="asam"),
    "Lookbehind, k = 2": lambda base: Lookbehind(base, rho=0.1, k=2, alpha=0.8),
    "Lookbehind, k = 2, adaptive α": lambda base: Lookbehind(base, rho=0.1, k=2, alpha="adaptive"),
}


def one(name: str, method: str) -> dict[str, float]:
    """Take two steps; return seconds and gradients of the second, and the peak of memory in GB."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = MODELS[name]
    net, passes = model.build(), 0
    optimizer = METHODS[method](model.base(net.parameters()))
    minibatches = [model.minibatch(model.examples) for _ in range(2 if "k = 2" in method else 1)]

    def closure_of(inputs: Any, targets: Any) -> Callable[[], torch.Tensor]:
        def closure() -> torch.Tensor:
            nonlocal passes
            passes += 1
            optimizer.zero_grad()
            loss: torch.Tensor = model.loss(net(inputs), targets)
            loss.backward()
            return loss

        return closure

    closures = [closure_of(*minibatch) for minibatch in minibatches]
    for _ in range(2):
        passes, start = 0, time.process_time()
        optimizer.step(closures if len(closures) > 1 else closures[0])  # type: ignore[arg-type]
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    parameters = sum(p.numel() for p in net.parameters())
    return {"seconds": seconds, "gradients": passes, "minibatches": len(closures), "peak": peak, "size": parameters}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", choices=MODELS)
    parser.add_argument("--method", choices=METHODS)
    args = parser.parse_args()
    if args.model and args.method:
        print(json.dumps(one(args.model, args.method)))
        raise SystemExit
    print("| model | method | gradients a step | seconds a step | seconds a minibatch | peak memory, GB | copies |")
    print("|---|---|---|---|---|---|---|")
    for name in [args.model] if args.model else MODELS:
        plain = 0.0
        for method in METHODS:
            command = [sys.executable, __file__, "--model", name, "--method", method]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            plain = plain or found["peak"]
            numbers = [
                f"{found['gradients']}",
                f"{found['seconds']:.2f}",
                f"{found['seconds'] / found['minibatches']:.2f}",
            ]
            more = (found["peak"] - plain) * 1e9 / (4 * found["size"])  # parameter-sized copies beyond the base's
            print("|", " | ".join([name, method, *numbers, f"{found['peak']:.2f}", f"{more:+.1f}"]), "|", flush=True)
