"""C-MAML steps of lookbehind.lifelong against a straightforward implementation of the same algorithms.

pip install -e ".[lab]" && python benchmarks/lifelong.py          about 3 minutes

The straightforward one is what one writes from the pseudo-code: Python over the parameters for each update and norm,
over the images for their heads, and ``create_graph=True``. Both take the same steps, which is checked. Time is
processor time of one thread, in turns; ratios are medians over turns, with their range.

Measured (two busy x86 cores, torch 2.13):

                                     straightforward     ours   ratio
    Lookahead-C-MAML   lifelong-conv2      20.3 ms    18.8 ms   1.09 (0.96 to 1.19)
    Lookahead-C-MAML   lifelong-conv3     320.6 ms   315.9 ms   1.01 (0.96 to 1.07)
    Lookbehind-C-MAML  lifelong-conv2      15.1 ms    13.8 ms   1.09 (0.79 to 1.32)
    Lookbehind-C-MAML  lifelong-conv3     251.6 ms   260.1 ms   0.99 (0.91 to 1.14)

So on a CPU lists in one call gain nothing to speak of: of the paper's net two thirds of a step are convolutions, which
both compute alike. What a device with launches to save would gain was not measured: there was none.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from lookbehind.lifelong import Learner, LookaheadCMAML, LookbehindCMAML, Reservoir
from lookbehind.models import build

ETA, RHO, WAYS = 0.03, 0.05, 2


class Straightforward:
    """Both algorithms, a parameter at a time."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.names = [name for name, _ in model.named_parameters()]
        self.phi = list(model.parameters())

    def loss(self, weights: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
        logits = functional_call(self.model, dict(zip(self.names, weights, strict=True)), (x,))
        rows = []
        for i in range(len(y)):  # the head of each image's own task
            task = int(y[i]) // WAYS
            rows.append(logits[i, task * WAYS : (task + 1) * WAYS])
        return cross_entropy(torch.stack(rows), y % WAYS)

    def lookahead(self, b: tuple[Tensor, Tensor], b_m: tuple[Tensor, Tensor], k: int = 5) -> None:
        fast, losses = self.phi, []
        for x, y in zip(b[0].chunk(k), b[1].chunk(k), strict=True):
            g = torch.autograd.grad(self.loss(fast, x, y), fast, create_graph=True)
            fast = [w - ETA * t.clamp(-2, 2) for w, t in zip(fast, g, strict=True)]
            losses.append(self.loss(fast, *b_m))
        self.descend(torch.autograd.grad(sum(losses) / k, self.phi))

    def lookbehind(self, b: tuple[Tensor, Tensor], b_m: tuple[Tensor, Tensor], k: int = 2) -> None:
        fast = behind = self.phi
        for x, y in zip(b[0].chunk(k), b[1].chunk(k), strict=True):
            behind = self.climbed(behind, torch.autograd.grad(self.loss(behind, x, y), behind))
            g = torch.autograd.grad(self.loss(behind, x, y), behind, create_graph=True)
            fast = [w - ETA * t.clamp(-2, 2) for w, t in zip(fast, g, strict=True)]
        up = torch.autograd.grad(self.loss(fast, *b_m), self.phi, retain_graph=True)
        self.descend(torch.autograd.grad(self.loss(self.climbed(fast, up), *b_m), self.phi))

    def climbed(self, weights: list[Tensor], g: tuple[Tensor, ...]) -> list[Tensor]:
        norm = torch.sqrt(sum((t**2).sum() for t in g))
        return [w + RHO * t.detach() / norm for w, t in zip(weights, g, strict=True)]

    @torch.no_grad()
    def descend(self, g: tuple[Tensor, ...]) -> None:
        norm = torch.sqrt(sum((t**2).sum() for t in g))
        for w, t in zip(self.phi, g, strict=True):
            w.sub_(ETA * t * min(1.0, 2.0 / (float(norm) + 1e-6)))


class Fixed(Reservoir):
    """A memory that is full and always gives the same, so that both work on the same b_m."""

    def push(self, images: Tensor, labels: Tensor) -> None:
        return

    def joined(self, images: Tensor, labels: Tensor, n: int) -> tuple[Tensor, Tensor]:
        return self.b_m


def seconds(step: Callable[[], object], repeats: int) -> float:
    start = time.process_time()
    for _ in range(repeats):
        step()
    return (time.process_time() - start) / repeats


def compared(net: str, channels: int, side: int, classes: int, algorithm: str, turns: int, repeats: int) -> str:
    torch.manual_seed(0)
    models = [build(net, channels, classes) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    b = torch.randn(10, channels, side, side), torch.randint(WAYS, 2 * WAYS, (10,))
    replayed = torch.randn(10, channels, side, side), torch.randint(0, WAYS, (10,))
    memory = Fixed(10)
    memory.b_m = tuple(torch.cat(pair) for pair in zip(replayed, b, strict=True))
    made: dict[str, Learner] = {
        "Lookahead-C-MAML": LookaheadCMAML(models[0], memory, WAYS, lr=ETA, k=5),
        "Lookbehind-C-MAML": LookbehindCMAML(models[0], memory, WAYS, lr=ETA, rho=RHO, k=2),
    }
    ours, own = made[algorithm], Straightforward(models[1])
    theirs = own.lookahead if algorithm == "Lookahead-C-MAML" else own.lookbehind
    for _ in range(3):
        ours.observe(*b)
        theirs(b, memory.b_m)
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-4)
    times = [
        (seconds(lambda: theirs(b, memory.b_m), repeats), seconds(lambda: ours.observe(*b), repeats))
        for _ in range(turns)
    ]
    naive, fast = (1000 * statistics.median(each) for each in zip(*times, strict=True))
    ratio = statistics.median(a / c for a, c in times)
    low, *_, high = sorted(a / c for a, c in times)
    return f"{algorithm:18} {net:15} {naive:8.1f} ms {fast:8.1f} ms   {ratio:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"{'':34} straightforward  ours       ratio")
    for algorithm in ("Lookahead-C-MAML", "Lookbehind-C-MAML"):
        print(compared("lifelong-conv2", 1, 8, 10, algorithm, turns=15, repeats=20), flush=True)
        print(compared("lifelong-conv3", 3, 32, 100, algorithm, turns=9, repeats=2), flush=True)
