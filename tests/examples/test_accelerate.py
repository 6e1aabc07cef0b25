"""Closures through optimizers that Accelerate has prepared: what works, what does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lookbehind import SAM, Lookahead, Lookbehind, MultistepSAM
from lookbehind.data import load_digits
from tests.examples.running import accuracy, run

DIGITS = load_digits()
STEPS, BATCH, PARTS = 8, 60, 3


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """Accelerate keeps one state for a whole process."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


def perceptron() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))


def sgd(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)


def batches() -> DataLoader:
    return DataLoader(TensorDataset(DIGITS.train_images, DIGITS.train_labels), BATCH)


METHODS: dict[str, tuple[Callable[[nn.Module], Any], int]] = {
    "SGD": (sgd, 1),
    "SAM": (lambda net: SAM(sgd(net), rho=0.1), 2),
    "MultistepSAM": (lambda net: MultistepSAM(sgd(net), rho=0.1, k=2), 3),
    "Lookbehind": (lambda net: Lookbehind(sgd(net), rho=0.1, k=2, alpha="adaptive"), 3),
    "Lookahead SAM": (lambda net: Lookahead(SAM(sgd(net), rho=0.1), k=3), 2),
}


def plain_loop(make: Callable[[nn.Module], Any], clip: float = 0.0, autocast: bool = False) -> nn.Module:
    net = perceptron()
    optimizer = make(net)
    for _, (images, labels) in zip(range(STEPS), batches(), strict=False):

        def closure() -> Tensor:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                outputs = net(images)  # noqa: B023 -- used within this pass of the loop only
            loss = nn.functional.cross_entropy(outputs.float(), labels)  # noqa: B023
            loss.backward()
            if clip:
                nn.utils.clip_grad_norm_(net.parameters(), clip)
            return loss

        optimizer.step(closure)
    return net


def accelerated(
    accelerator: Accelerator,
    make: Callable[[nn.Module], Any],
    *,
    parts: int = 1,
    clip: float = 0.0,
    prepare: bool = True,
) -> tuple[nn.Module, list[Any], int]:
    """Return the net, what each step returned, and the number of passes."""
    net, passes, returned = perceptron(), 0, []
    optimizer = make(net)
    model, loader = accelerator.prepare(net, batches())
    optimizer = accelerator.prepare(optimizer) if prepare else optimizer
    scaler = accelerator.scaler
    for _, (images, labels) in zip(range(STEPS), loader, strict=False):

        def closure() -> Tensor:
            nonlocal passes
            passes += 1
            optimizer.zero_grad()
            total = torch.zeros(())
            for x, y in zip(images.chunk(parts), labels.chunk(parts), strict=True):  # noqa: B023
                loss = nn.functional.cross_entropy(model(x), y) / parts
                accelerator.backward(loss)
                total += loss.detach()
            if clip and prepare:
                accelerator.clip_grad_norm_(model.parameters(), clip)
            elif clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip * scaler.get_scale())
            return total

        if prepare:
            returned.append(optimizer.step(closure))
        else:
            returned.append(optimizer.step(closure, grad_scaler=scaler))
            scaler.update()
    return net, returned, passes


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for w, v in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(w, v, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("parts", "clip"), [(1, 0.0), (PARTS, 0.5)])
def test_a_prepared_optimizer_equals_a_plain_loop(name: str, parts: int, clip: float) -> None:
    make, calls = METHODS[name]
    net, returned, passes = accelerated(Accelerator(cpu=True), make, parts=parts, clip=clip)
    assert passes == STEPS * calls
    assert_same(net, plain_loop(make, clip))
    assert set(returned) == {None}  # the loss must be had from the closure


def test_bf16() -> None:
    net, *_ = accelerated(Accelerator(cpu=True, mixed_precision="bf16"), METHODS["Lookbehind"][0])
    assert_same(net, plain_loop(METHODS["Lookbehind"][0], autocast=True))


def with_scaler() -> Accelerator:
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=3)  # as fp16 makes on a GPU
    return accelerator


def test_under_a_scaler_a_prepared_optimizer_raises() -> None:
    """The scaler steps before the closure has run; what it says depends on whether it has seen a loss before."""
    accelerator, net = with_scaler(), perceptron()
    model, optimizer = accelerator.prepare(net, METHODS["Lookbehind"][0](net))
    with pytest.raises(AssertionError, match="Attempted step"):
        optimizer.step(lambda: pytest.fail("the closure is not reached"))
    accelerator.backward(model(DIGITS.train_images[:10]).square().mean())
    with pytest.raises(TypeError, match=r"call optimizer\.step\(closure, grad_scaler=scaler\)"):
        optimizer.step(lambda: pytest.fail("the closure is not reached"))
    assert all(map(torch.equal, net.parameters(), perceptron().parameters()))


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_under_a_scaler_an_optimizer_that_is_not_prepared_works(clip: float) -> None:
    make = METHODS["Lookbehind"][0]
    net, returned, _ = accelerated(with_scaler(), make, parts=PARTS, clip=clip, prepare=False)
    assert_same(net, plain_loop(make, clip))
    assert returned[-1] < returned[0]


def test_accumulate_drops_all_micro_batches_but_the_last() -> None:
    """Measured, so that documents can say it: half of the data is never seen, and its loss counts half."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    net = perceptron()
    model, optimizer, loader = accelerator.prepare(net, METHODS["SAM"][0](net), batches())
    seen = []
    for number, (images, labels) in zip(range(STEPS), loader, strict=False):
        with accelerator.accumulate(model):

            def closure() -> Tensor:
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(images), labels)  # noqa: B023
                accelerator.backward(loss)
                seen.append(number)  # noqa: B023
                return loss

            optimizer.step(closure)
    assert seen == [1, 1, 3, 3, 5, 5, 7, 7]

    plain = perceptron()
    other = METHODS["SAM"][0](plain)
    for number, (images, labels) in zip(range(STEPS), batches(), strict=False):
        if number % 2:

            def half() -> Tensor:
                other.zero_grad()
                loss = nn.functional.cross_entropy(plain(images), labels) / 2  # noqa: B023
                loss.backward()
                return loss

            other.step(half)
    assert_same(net, plain)


def test_example(tmp_path: Path) -> None:
    """It learns, and a run resumed from Accelerate's own state ends bit for bit where the undisturbed one ends."""
    whole, printed = run("accelerate_digits", "--epochs", "4", "--folder", tmp_path)
    assert accuracy(printed) > 90
    AcceleratorState._reset_state(True)
    resumed, again = run("accelerate_digits", "--epochs", "4", "--folder", tmp_path, "--resume", "2")
    assert again == "".join(printed.splitlines(keepends=True)[2:])
    assert all(map(torch.equal, whole["model"].state_dict().values(), resumed["model"].state_dict().values()))
    buffers = [[s["momentum_buffer"] for s in g["optimizer"].state_dict()["state"].values()] for g in (whole, resumed)]
    assert all(map(torch.equal, *buffers))
