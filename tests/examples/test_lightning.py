"""Lightning's automatic optimization: what works, what does not, and what is refused."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from lookbehind import SAM, Lookahead, Lookbehind, MultistepSAM
from lookbehind.data import load_digits
from lookbehind.integrations.lightning import SharpnessAwareChecks
from lookbehind.models import ConvNet
from tests.examples.running import accuracy, run

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's own, many
DIGITS = load_digits()
BATCH, EPOCHS, STEPS = 100, 2, 10  # steps of an epoch
K = 2


def lookbehind(net: nn.Module, **options: Any) -> Lookbehind:
    return Lookbehind(torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9), rho=0.1, k=K, **options)


class Module(lightning.LightningModule):
    """A classifier that keeps the losses of its passes and counts its hooks."""

    def __init__(self, make: Callable[[nn.Module], Any] = lookbehind, net: Callable[[], nn.Module] = ConvNet) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.make = net(), make
        self.losses: list[Tensor] = []
        self.returned: list[Tensor] = []
        self.hooks = {"on_before_zero_grad": 0, "on_after_backward": 0, "on_before_optimizer_step": 0}
        self.ends: list[Tensor] = []

    def training_step(self, batch: list[Tensor]) -> Tensor:
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.losses.append(loss.detach())
        self.log("logged_in_training_step", loss, on_step=True, on_epoch=True)
        return loss

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any) -> None:
        self.returned.append(optimizer.step(closure=optimizer_closure))
        self.log("logged_in_optimizer_step", self.returned[-1], on_step=True, on_epoch=True)

    def on_before_zero_grad(self, *_: Any) -> None:
        self.hooks["on_before_zero_grad"] += 1

    def on_after_backward(self) -> None:
        self.hooks["on_after_backward"] += 1

    def on_before_optimizer_step(self, *_: Any) -> None:
        self.hooks["on_before_optimizer_step"] += 1

    def on_train_batch_end(self, outputs: Any, *_: Any) -> None:
        self.ends.append(outputs["loss"])

    def configure_optimizers(self) -> Any:
        return self.make(self.net)


def batches() -> DataLoader:
    train = TensorDataset(DIGITS.train_images, DIGITS.train_labels)
    return DataLoader(train, BATCH, sampler=DistributedSampler(train, num_replicas=1, rank=0))


def fit(module: lightning.LightningModule, *, checks: bool = True, **options: Any) -> lightning.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    callbacks = [*options.pop("callbacks", []), *([SharpnessAwareChecks()] if checks else [])]
    settings = {"max_epochs": EPOCHS, "accelerator": "cpu", "enable_model_summary": False, "callbacks": callbacks}
    trainer = lightning.Trainer(**{**quiet, **settings, **options})
    trainer.fit(module, batches())
    return trainer


def plain_loop(
    make: Callable[[nn.Module], Any],
    clip: float = 0.0,
    autocast: bool = False,
    model: Callable[[], nn.Module] = ConvNet,
) -> nn.Module:
    """Train on the same batches without Lightning."""
    torch.manual_seed(0)
    net, loader = model(), batches()
    optimizer = make(net)
    for epoch in range(EPOCHS):
        loader.sampler.set_epoch(epoch)
        for images, labels in loader:

            def closure() -> Tensor:
                optimizer.zero_grad()
                with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                    loss = nn.functional.cross_entropy(net(images), labels)  # noqa: B023 -- used in this pass only
                loss.backward()
                if clip:
                    nn.utils.clip_grad_norm_(net.parameters(), clip)
                return loss

            optimizer.step(closure)
    return net


def assert_same(one: nn.Module, other: nn.Module) -> None:
    """Compare weights and BatchNorm's running statistics."""
    for (name, w), v in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(w, v, rtol=0, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


METHODS = {
    "SGD": (lambda net: torch.optim.SGD(net.parameters(), lr=0.05), 1),
    "SAM": (lambda net: SAM(torch.optim.SGD(net.parameters(), lr=0.05), rho=0.1, model=net), 2),
    "MultistepSAM": (lambda net: MultistepSAM(torch.optim.AdamW(net.parameters(), lr=1e-3), rho=0.1, k=2), 3),
    "Lookbehind": (lookbehind, 3),
    "Lookbehind, statistics apart": (lambda net: lookbehind(net, model=net), 3),
    "Lookahead SAM": (lambda net: Lookahead(SAM(torch.optim.SGD(net.parameters(), lr=0.05)), k=3), 2),
}


@pytest.mark.parametrize("name", METHODS)
def test_equals_a_plain_loop(name: str) -> None:
    make, passes = METHODS[name]
    module = Module(make)
    trainer = fit(module)
    assert len(module.losses) == EPOCHS * STEPS * passes
    assert trainer.global_step == EPOCHS * STEPS
    assert_same(module.net, plain_loop(make))


def test_clipping_acts_on_the_gradient_of_each_pass() -> None:
    module = Module()
    fit(module, gradient_clip_val=0.2)
    clipped = plain_loop(lookbehind, clip=0.2)
    assert_same(module.net, clipped)
    with pytest.raises(AssertionError):
        assert_same(plain_loop(lookbehind), clipped)


def test_bf16() -> None:
    module = Module()
    fit(module, precision="bf16-mixed")
    assert_same(module.net, plain_loop(lookbehind, autocast=True))


def test_logs_of_training_step_mix_in_the_perturbed_weights_and_those_of_optimizer_step_do_not() -> None:
    module = Module()
    metrics = fit(module, max_epochs=1).callback_metrics
    first, last = module.losses[:: K + 1], module.losses[K :: K + 1]
    assert module.returned == first
    assert metrics["logged_in_optimizer_step_step"] == first[-1]
    torch.testing.assert_close(metrics["logged_in_optimizer_step_epoch"], torch.stack(first).mean())
    assert metrics["logged_in_training_step_step"] == last[-1] > first[-1]
    torch.testing.assert_close(metrics["logged_in_training_step_epoch"], torch.stack(module.losses).mean())
    assert module.ends == last  # what callbacks get in on_train_batch_end


def test_hooks_run_once_a_pass() -> None:
    module = Module()
    fit(module)
    assert set(module.hooks.values()) == {EPOCHS * STEPS * (K + 1)}


def test_accumulation_is_refused_since_it_would_train_wrongly() -> None:
    """The first gradient of a step is of all micro-batches, the second of the last one only."""
    grads: list[float] = []

    class Norms(Module):
        def on_before_optimizer_step(self, optimizer: Any) -> None:
            grads.append(nn.utils.get_total_norm([p.grad for p in self.net.parameters()]).item())

    module = Norms(lambda net: SAM(torch.optim.SGD(net.parameters(), lr=0.0), rho=0.0))
    fit(module, checks=False, accumulate_grad_batches=2, max_epochs=1)
    assert len(module.losses) == STEPS + STEPS // 2  # not 2 a micro-batch
    once, twice = grads[::2], grads[1::2]
    assert all(b != pytest.approx(a, rel=0.05) for a, b in zip(once, twice, strict=True))  # at the same weights
    with pytest.raises(ValueError, match="accumulate_grad_batches is 2"):
        fit(Module(), accumulate_grad_batches=2)
    with pytest.raises(ValueError, match="a callback sets it"):
        fit(Module(), callbacks=[GradientAccumulationScheduler({1: 4})])


def test_fp16_is_refused() -> None:
    def plugin() -> MixedPrecision:  # what precision="16-mixed" makes on a GPU
        return MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))

    with pytest.raises(ValueError, match='use "bf16-mixed"'):
        fit(Module(), plugins=[plugin()])
    with pytest.raises(TypeError):  # nor does it train wrongly where nobody checks
        fit(Module(), checks=False, plugins=[plugin()])


def test_optimizers_with_one_gradient_are_not_refused() -> None:
    for make in (METHODS["SGD"][0], lambda net: Lookahead(torch.optim.SGD(net.parameters(), lr=0.05), k=2)):
        fit(Module(make), accumulate_grad_batches=2, max_epochs=1)


def perceptron() -> nn.Module:
    """Return a net without BatchNorm, to which the parts of a batch are the batch."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


class Manual(Module):
    """Accumulates four micro-batches within the closure."""

    def __init__(self) -> None:
        super().__init__(net=perceptron)
        self.automatic_optimization = False

    def training_step(self, batch: list[Tensor]) -> None:
        parts = list(zip(*(tensor.chunk(4) for tensor in batch), strict=True))

        def closure() -> Tensor:
            self.net.zero_grad()
            losses = [nn.functional.cross_entropy(self.net(x), y) / len(parts) for x, y in parts]
            for loss in losses:
                self.manual_backward(loss)
            return torch.stack(losses).sum().detach()

        self.take_step(closure)

    def take_step(self, closure: Callable[[], Tensor]) -> None:
        self.optimizers().step(closure=closure)

    def on_train_batch_end(self, *_: Any) -> None:
        pass


def test_manual_optimization_accumulates_within_the_closure() -> None:
    module = Manual()
    assert fit(module).global_step == EPOCHS * STEPS
    assert_same(module.net, plain_loop(lookbehind, model=perceptron))


def test_manual_optimization_can_use_fp16_past_lightning_s_own_step() -> None:
    """Lightning does not count such steps."""

    class Scaled(Manual):
        def take_step(self, closure: Callable[[], Tensor]) -> None:
            scaler = self.trainer.scaler
            self.optimizers(use_pl_optimizer=False).step(closure, grad_scaler=scaler)
            scaler.update()

    module = Scaled()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    assert fit(module, plugins=[MixedPrecision("16-mixed", "cpu", scaler=scaler)]).global_step == 0
    nets = module.net, plain_loop(lookbehind, model=perceptron), perceptron()
    scaled, plain, start = (nn.utils.parameters_to_vector(net.parameters()) for net in nets)
    assert (scaled - plain).norm() < 0.02 * (plain - start).norm()  # float16 has three digits


@contextlib.contextmanager
def counted() -> Iterator[list[int]]:
    """Count the forward passes of all conv nets."""
    passes: list[int] = []
    count = nn.modules.module.register_module_forward_hook(lambda m, *_: passes.extend([1] * isinstance(m, ConvNet)))
    try:
        yield passes
    finally:
        count.remove()


def test_example(tmp_path: Path) -> None:
    """It learns, and a run resumed through the Trainer ends bit for bit where the undisturbed one ends."""
    with counted() as passes:
        whole, printed = run("lightning_digits", "--epochs", "4", "--folder", tmp_path / "whole")
    assert accuracy(printed) > 90
    assert len(passes) == 4 * 20 * 3 + 1
    run("lightning_digits", "--epochs", "2", "--folder", tmp_path / "rest")
    (last,) = (tmp_path / "rest").rglob("*.ckpt")
    with counted() as passes:
        resumed, _ = run("lightning_digits", "--epochs", "4", "--folder", tmp_path / "rest", "--resume", last)
    assert len(passes) == 2 * 20 * 3 + 1
    assert resumed["trainer"].global_step == whole["trainer"].global_step == 80
    one, other = whole["trainer"].optimizers[0].state_dict(), resumed["trainer"].optimizers[0].state_dict()
    assert one["param_groups"] == other["param_groups"]
    for a, b in itertools.chain(
        zip(whole["model"].state_dict().values(), resumed["model"].state_dict().values(), strict=True),
        ((s["momentum_buffer"], other["state"][i]["momentum_buffer"]) for i, s in one["state"].items()),
    ):
        assert torch.equal(a, b)
