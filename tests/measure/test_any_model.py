"""Measurements of models that are no plain classifiers, in modes of the caller's that must not matter."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from lookbehind.measure import (
    hessian_trace,
    loss_slice,
    m_sharpness,
    noisy_accuracy,
    quantised_accuracy,
    spectral_density,
    suggest_rho,
    top_eigenvalues,
)
from lookbehind.training import fit

LOSS = nn.functional.cross_entropy
Measure = Callable[..., Any]
OF_LOSS: dict[str, Measure] = {
    "sharpness": lambda m, loss, data: m_sharpness(m, loss, data, [0.1, 1.0]).values,
    "climbs": lambda m, loss, data: m_sharpness(m, loss, data, [0.5], steps=3).values,
    "slice": lambda m, loss, data: loss_slice(m, loss, data, points=3).losses[0],
    "trace": lambda m, loss, data: (hessian_trace(m, loss, data, draws=3).trace,),
    "eigenvalues": lambda m, loss, data: top_eigenvalues(m, loss, data).values,
    "density": lambda m, loss, data: spectral_density(m, loss, data, probes=2, steps=3).nodes[0],
}
OF_ACCURACY: dict[str, Measure] = {
    "noise": lambda m, data, **o: noisy_accuracy(m, data, data, [0.0, 0.5], draws=2, **o).means,
    "bits": lambda m, data, **o: quantised_accuracy(m, data, bits=(16, 3), train_minibatches=data, **o).per_tensor,
}
of_loss = pytest.mark.parametrize("measure", OF_LOSS.values(), ids=OF_LOSS)
of_accuracy = pytest.mark.parametrize("measure", OF_ACCURACY.values(), ids=OF_ACCURACY)


def classifier() -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 3))
    return model, [(torch.randn(16, 4), torch.randint(3, (16,))) for _ in range(3)]


class Modes:
    """Contexts of the caller's."""

    @staticmethod
    def autocast() -> Any:
        return torch.autocast("cpu", torch.bfloat16)

    no_grad = torch.no_grad
    inference = torch.inference_mode
    cached = parametrize.cached

    @staticmethod
    def device() -> Any:
        return torch.device("meta")


MODES = [Modes.autocast, Modes.no_grad, Modes.inference, Modes.cached, Modes.device]
every_mode = pytest.mark.parametrize("mode", MODES, ids=["autocast", "no_grad", "inference", "cached", "device"])


@of_loss
@every_mode
def test_modes_of_the_caller_do_not_matter_to_losses(measure: Measure, mode: Callable[[], Any]) -> None:
    model, data = classifier()
    parametrize.register_parametrization(model[0], "weight", nn.Identity())
    expected = measure(model, LOSS, data)
    with mode():
        assert measure(model, LOSS, data) == expected
    if mode is Modes.inference:  # where a Lightning validation makes its minibatches
        with mode():
            made = [(x.clone(), y.clone()) for x, y in data]
            assert measure(model, LOSS, made) == expected


@of_accuracy
@every_mode
def test_modes_of_the_caller_do_not_matter_to_accuracies(measure: Measure, mode: Callable[[], Any]) -> None:
    model, data = classifier()
    expected = measure(model, data)
    with mode():
        assert measure(model, data) == expected


def test_a_model_of_inference_mode_is_refused() -> None:
    with torch.inference_mode():
        model = nn.Linear(4, 3)
    with pytest.raises(ValueError, match="made in inference mode"):
        m_sharpness(model, LOSS, classifier()[1], [0.1])


def test_autocast_in_the_model_is_its_own() -> None:
    class Narrow(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return self.model(x).float()

    model, data = classifier()
    inside = m_sharpness(Narrow(model), LOSS, data, [0.1, 1.0]).values
    with torch.autocast("cpu", torch.bfloat16):  # the outer one would keep the casts of other weights
        assert m_sharpness(Narrow(model), LOSS, data, [0.1, 1.0]).values == inside
    assert inside == pytest.approx(m_sharpness(model, LOSS, data, [0.1, 1.0]).values, rel=0.1)


@of_loss
def test_dropout_is_no_sharpness_and_leaves_the_random_state(measure: Measure) -> None:
    class Dropping(nn.Module):  # as functional dropout that is always on
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(nn.functional.dropout(x, 0.5, training=True))

    _, data = classifier()
    model = Dropping()
    before = torch.get_rng_state()
    first = measure(model, LOSS, data)
    assert torch.equal(torch.get_rng_state(), before)
    assert measure(model, LOSS, data) == first
    # At φ itself nothing changes: all points of one comparison have the same masks.
    assert m_sharpness(model, LOSS, data, [1e-12]).values[0] == pytest.approx(0, abs=1e-6)


class Keyword(nn.Module):
    """As models of Hugging Face: a dict of inputs with labels, a dict of outputs with the loss."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.model(pixels)
        return {"logits": logits} if labels is None else {"loss": LOSS(logits, labels), "logits": logits}


class Sum(nn.Module):
    """A model of two inputs that returns a tuple."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return self.model(a + b), a


def forms(model: nn.Module, data: list[tuple[Tensor, Tensor]]) -> dict[str, tuple[nn.Module, Any, Any]]:
    """Return the same model and data in other forms, with a loss."""
    return {
        "dicts": (Keyword(model), None, [{"pixels": x, "labels": y} for x, y in data]),
        "inputs by keyword": (
            Keyword(model),
            lambda out, y: LOSS(out["logits"], y),
            [({"pixels": x}, y) for x, y in data],
        ),
        "two inputs": (Sum(model), lambda out, y: LOSS(out[0], y), [((x / 2, x / 2), y) for x, y in data]),
        "targets (n, 1)": (model, lambda out, y: LOSS(out, y[:, 0]), [(x, y[:, None]) for x, y in data]),
        "one-hot": (model, LOSS, [(x, nn.functional.one_hot(y, 3).float()) for x, y in data]),
    }


FORMS = list(forms(nn.Identity(), []))
every_form = pytest.mark.parametrize("form", FORMS)


@of_loss
@every_form
def test_losses_of_every_form(measure: Measure, form: str) -> None:
    model, data = classifier()
    other, loss, minibatches = forms(model, data)[form]
    assert measure(other, loss, minibatches) == pytest.approx(measure(model, LOSS, data), rel=1e-4, abs=1e-5)


@of_accuracy
@every_form
def test_accuracies_of_every_form(measure: Measure, form: str) -> None:
    model, data = classifier()
    other, _, minibatches = forms(model, data)[form]
    assert measure(other, minibatches) == measure(model, data)


@every_form
def test_training_and_the_range_finder_take_every_form(form: str) -> None:
    model, data = classifier()
    found, expected = [], []
    for result, (other, loss, minibatches) in ((found, forms(model, data)[form]), (expected, (model, LOSS, data))):
        other = copy.deepcopy(other)
        sgd = partial(torch.optim.SGD, lr=0.1)
        result += suggest_rho(other, loss, minibatches, minibatches, sgd, rhos=[0, 0.1, 0.2], steps=4).scores
        history = fit(other, sgd(other.parameters()), minibatches, epochs=2, loss=loss)
        result += [epoch.loss for epoch in history.epochs]
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("ending", ["last is smaller", "padded", "class weights"])
def test_the_mean_does_not_depend_on_how_data_are_cut(ending: str) -> None:
    torch.manual_seed(0)
    model, x, y = nn.Linear(4, 3).double(), torch.randn(20, 4).double(), torch.randint(3, (20,))
    loss: Any = LOSS
    if ending == "padded":
        y[:7] = -100
    if ending == "class weights":
        loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.1]).double(), ignore_index=2)
    whole, cut = [(x, y)], [(x[:7], y[:7]), (x[7:19], y[7:19]), (x[19:], y[19:])]
    for measure in (OF_LOSS["slice"], OF_LOSS["trace"], OF_LOSS["eigenvalues"]):
        assert measure(model, loss, cut) == pytest.approx(measure(model, loss, whole), rel=1e-9)
    assert loss_slice(model, loss, cut, points=3).loss == pytest.approx(float(loss(model(x), y)))


def test_accuracy_per_pixel_of_one_logit_and_of_ignored_targets() -> None:
    torch.manual_seed(0)
    net, x = nn.Conv2d(1, 3, 1), torch.randn(4, 1, 8, 8)
    y = torch.randint(3, (4, 8, 8))
    expected = 100 * (net(x).argmax(1) == y).double().mean().item()
    assert noisy_accuracy(net, [(x, y)], [(x, y)], [0.0], draws=1).means[0] == pytest.approx(expected)
    y[:2] = -100
    expected = 100 * (net(x).argmax(1) == y)[2:].double().mean().item()
    assert noisy_accuracy(net, [(x, y)], [(x, y)], [0.0], draws=1).means[0] == pytest.approx(expected)
    one, x = nn.Linear(4, 1), torch.randn(50, 4)
    for y in ((one(x) > 0).long()[:, 0], (one(x) > 0).long(), (one(x) > 0).float(), (one(x) > 0)[:, 0]):
        assert quantised_accuracy(one, [(x, y)], bits=(16,)).accuracy == 100
        assert quantised_accuracy(one, [(x, ~(y > 0))], bits=(16,)).accuracy == 0
    last = nn.Linear(4, 3)  # classes last, as language models have them
    x = torch.randn(5, 7, 4)
    assert quantised_accuracy(last, [(x, last(x).argmax(-1))], bits=(16,)).accuracy == 100


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        ((6, 3), torch.rand(6, 3)),  # several labels, or numbers to be met
        ((6, 3), torch.ones(6, 3).long()),
        ((6, 1), torch.randn(6, 1)),  # regression
        ((6, 3), torch.zeros(5).long()),
        ((6, 3, 3), torch.zeros(6, 3).long()),  # either dimension may be the classes'
        ((6, 3), {"first": torch.zeros(6)}),
    ],
    ids=["soft", "several labels", "regression", "another number", "two places", "several targets"],
)
@of_accuracy
def test_what_has_no_accuracy_is_refused_and_a_score_measures_it(
    measure: Measure, outputs: tuple[int, ...], targets: Any
) -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.rand(2, 2))

        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros(outputs) + 0 * self.weight.sum()

    data = [(torch.zeros(6, 2), targets)]
    with pytest.raises(ValueError, match="pass score="):
        measure(Constant(), data)
    assert measure(Constant(), data, score=lambda out, y: torch.full((6,), 0.25)) == (0.25, 0.25)
    assert measure(Constant(), data, score=lambda out, y: torch.tensor(0.5)) == (0.5, 0.5)


def test_a_loss_that_does_not_fit_is_named_with_the_shapes() -> None:
    model, data = classifier()
    with pytest.raises(ValueError, match=r"does not take outputs that are a dict with 'logits' with targets"):
        m_sharpness(Keyword(model), LOSS, data, [0.1])
    with pytest.raises(ValueError, match=r"float32 of shape \(16, 3\) with targets that are int64 of shape \(16, 1\)"):
        m_sharpness(model, LOSS, [(x, y[:, None]) for x, y in data], [0.1])
    with pytest.raises(ValueError, match="holds no loss"):
        m_sharpness(model, None, data, [0.1])
    with pytest.raises(ValueError, match="has a target that counts"):
        m_sharpness(model, LOSS, [(x, torch.full_like(y, -100)) for x, y in data], [0.1])


class Changing(nn.Module):
    """A model whose forward pass replaces a buffer, resizes one, makes one, sets a hook and an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("seen", torch.zeros(1))
        self.average = torch.zeros(4)

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        with torch.no_grad():
            self.seen.resize_(len(self.seen) + 1)
        self.register_buffer("made", torch.ones(1))
        self.average += 1
        if not self.linear._forward_hooks:
            self.linear.register_forward_hook(lambda *_: None)
        return self.linear(x)


@pytest.mark.parametrize("measure", [*OF_LOSS.values(), lambda m, loss, data: OF_ACCURACY["bits"](m, data)])
def test_everything_is_in_its_place_afterwards(measure: Measure) -> None:
    model, data = Changing(), classifier()[1]
    held = {name: (t, t.clone()) for name, t in [*model.named_parameters(), *model.named_buffers()]}
    with pytest.warns(UserWarning, match="mean") if "bits" in str(measure) else _nothing():
        measure(model, LOSS, data)
    now = dict([*model.named_parameters(), *model.named_buffers()])
    assert now.keys() == held.keys()
    assert all(now[name] is t and torch.equal(t, value) for name, (t, value) in held.items())
    assert torch.equal(model.average, torch.zeros(4))
    assert not model.linear._forward_hooks


def _nothing() -> Any:
    import contextlib

    return contextlib.nullcontext()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["pruned", "parametrised", "scripted", "compiled", "half"])
def test_odd_kinds_of_models(kind: str) -> None:
    model, data = classifier()
    state = copy.deepcopy(model.state_dict())
    expected = m_sharpness(model, LOSS, data, [0.1]).values
    if kind == "pruned":
        prune.random_unstructured(model[0], "weight", 0.0)
    if kind == "parametrised":
        parametrize.register_parametrization(model[0], "weight", nn.Identity())
    measured: Any = torch.jit.script(model) if kind == "scripted" else model
    if kind == "compiled":
        measured = torch.compile(model, backend="eager")
    if kind == "half":
        measured, data = model.half(), [(x.half(), y) for x, y in data]
    assert m_sharpness(measured, LOSS, data, [0.1]).values == pytest.approx(
        expected, rel=0.1 if kind == "half" else 1e-5
    )
    if kind != "scripted":  # its batch norms are refused, see below
        noisy_accuracy(measured, data, data, [0.1], draws=1)
    if kind in ("scripted", "compiled"):
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_quantised_model_is_refused() -> None:
    class Rounded(nn.Module):  # as torch's quantised modules: weights that are no parameters
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.ones(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight

    for measure in OF_ACCURACY.values():
        with pytest.raises(ValueError, match="no parameter"):
            measure(Rounded(), classifier()[1])


def test_half_precision_that_overflows_is_named() -> None:
    model = nn.Linear(4, 3).half()
    data = [(100 * torch.randn(8, 4).half(), torch.randint(3, (8,)))]
    with pytest.raises(ValueError, match=r"torch\.float16; measure model\.float\(\)"):
        hessian_trace(model, lambda out, y: 1e4 * (out**2).mean(), data, draws=2)


def test_outputs_that_are_nan_are_no_class() -> None:
    model, x, y = nn.Linear(4, 3), torch.randn(8, 4), torch.zeros(8).long()
    nn.init.constant_(model.weight, torch.nan)
    for measure in OF_ACCURACY.values():
        assert set(measure(model, [(x, y)])) == {0.0}
    with pytest.raises(ValueError, match="not finite"):
        suggest_rho(model, LOSS, [(x, y)], [(x, y)], lambda p: torch.optim.SGD(p, lr=0.1), rhos=[0, 0.1, 0.2], steps=1)


@pytest.mark.parametrize("endless", [False, True])
def test_the_range_finder_holds_as_many_minibatches_as_it_takes(endless: bool) -> None:
    alive = peak = 0

    def gone() -> None:
        nonlocal alive
        alive -= 1

    class Loader:
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            nonlocal alive, peak
            number = 0
            while endless or number < 200:
                x = torch.randn(8, 4)
                alive, number = alive + 1, number + 1
                peak = max(peak, alive)
                weakref.finalize(x, gone)
                yield x, torch.randint(3, (8,))

    model, data = nn.Linear(4, 3), classifier()[1]
    suggest_rho(model, LOSS, Loader(), data, lambda p: torch.optim.SGD(p, lr=0.1), rhos=[0, 0.1, 0.2], steps=2)
    assert peak <= 2 * 2 + 2


def test_a_loader_whose_passes_have_other_examples_is_refused() -> None:
    model, _ = classifier()
    data = torch.utils.data.TensorDataset(torch.randn(10, 4), torch.randint(3, (10,)))
    loader = partial(torch.utils.data.DataLoader, data, batch_size=4, shuffle=True)
    with pytest.raises(ValueError, match="each pass has others"):
        loss_slice(model, LOSS, loader(drop_last=True, generator=torch.Generator()), points=3)
    loss_slice(model, LOSS, loader(generator=torch.Generator()), points=3)
    once = loss_slice(model, LOSS, loader(drop_last=True), points=3)  # torch's own random state is the same each pass
    assert once.minibatches == 2


def test_batch_norm_forgets_what_it_saw_before() -> None:
    model, data = classifier()
    for _ in range(5):
        model.train()(3 + 5 * torch.randn(16, 4))
    other = copy.deepcopy(model)
    torch.optim.swa_utils.update_bn(data, other)
    met = [other.eval()(x).argmax(1) == y for x, y in data]
    expected = 100 * torch.cat(met).double().mean().item()
    found = quantised_accuracy(model, data, bits=(16,), train_minibatches=data).accuracy
    assert found == pytest.approx(expected)
    scores = quantised_accuracy(model, data, train_minibatches=data, score=lambda out, y: out.sum(1)).accuracy
    assert scores == pytest.approx(torch.cat([other(x).sum(1) for x, _ in data]).double().mean().item(), rel=1e-5)


def test_batch_norm_is_estimated_by_the_call_that_evaluates() -> None:
    model, data = classifier()
    two = Sum(model)
    two_inputs = [((x / 2, x / 2), y) for x, y in data]
    assert noisy_accuracy(two, two_inputs, two_inputs, [0.3], draws=3).means == (
        noisy_accuracy(model, data, data, [0.3], draws=3).means
    )


def test_models_and_minibatches_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    size = {
        "vocab_size": 20,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
    }
    model = transformers.BertForSequenceClassification(transformers.BertConfig(num_labels=3, **size))

    def batch(number: int) -> Any:
        tokens = torch.randint(20, (number, 5))
        return transformers.BatchEncoding({"input_ids": tokens, "labels": torch.randint(3, (number,))})

    data = [batch(8), batch(5)]
    with torch.no_grad():
        outputs = [model.eval()(**one) for one in data]
    right = sum(int((out.logits.argmax(1) == one["labels"]).sum()) for out, one in zip(outputs, data, strict=True))
    mean = sum(out.loss.item() * len(one["labels"]) for out, one in zip(outputs, data, strict=True)) / 13
    assert quantised_accuracy(model, data, bits=(16,)).accuracy == pytest.approx(100 * right / 13)
    assert loss_slice(model, None, data, points=3).loss == pytest.approx(mean, rel=1e-6)
    for measure in OF_LOSS.values():
        assert all(torch.tensor(measure(model, None, data)).isfinite())
    fit(model, torch.optim.SGD(model.parameters(), lr=0.1), data, epochs=1, loss=None)


def test_a_language_model_counts_the_labels_that_it_predicts() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2)
    model = transformers.GPT2LMHeadModel(config).eval()
    tokens = torch.randint(20, (6, 8))
    labels = tokens.clone()
    labels[0, 2:] = labels[1, 5:] = -100  # padding
    whole = [{"input_ids": tokens, "labels": labels}]
    cut = [{"input_ids": tokens[a:b], "labels": labels[a:b]} for a, b in ((0, 1), (1, 4), (4, 6))]
    assert loss_slice(model, None, cut, points=3).loss == pytest.approx(loss_slice(model, None, whole, points=3).loss)


def test_scripted_batch_norms_are_not_estimated_anew_without_a_word() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    scripted: Any = torch.jit.script(model)
    minibatches = [(torch.randn(8, 3), torch.randint(2, (8,))) for _ in range(2)]
    before = {name: value.clone() for name, value in scripted.state_dict().items()}
    with pytest.raises(ValueError, match="the scripted layer 1 is a batch norm, whose statistics cannot be estimated"):
        noisy_accuracy(scripted, minibatches, minibatches, [0.1], draws=1)
    assert all(torch.equal(value, before[name]) for name, value in scripted.state_dict().items())
    without: Any = torch.jit.script(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)))
    assert len(noisy_accuracy(without, minibatches, minibatches, [0.1], draws=1).means) == 1


def test_lazy_layers_and_numpy_arrays_are_refused_with_advice() -> None:
    model, data = classifier()
    with pytest.raises(ValueError, match="lazy layers without weights yet; call it once on a minibatch"):
        m_sharpness(nn.LazyLinear(3), LOSS, data, [0.1])
    arrays = [(x.numpy(), y.numpy()) for x, y in data]
    with pytest.raises(ValueError, match=r"minibatch 0 holds numpy arrays; make them tensors: torch\.from_numpy"):
        m_sharpness(model, LOSS, arrays, [0.1])
