"""Call a model with a minibatch: the one place that knows forms of inputs, outputs, targets and losses."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from lookbehind._checks import shown

Loss = Callable[[Any, Any], Tensor]
Score = Callable[[Any, Any], Tensor]
IGNORED = -100  # what torch's losses call ``ignore_index``


def pairs(minibatches: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Go through minibatches as pairs (inputs, targets), and refuse what is none.

    A dict goes to the model by keywords, as a whole; its targets are its ``labels``.
    """
    for index, minibatch in enumerate(minibatches):
        if isinstance(minibatch, Mapping):  # a UserDict, as tokenizers return, would be no tree of tensors
            minibatch = dict(minibatch)
        elif isinstance(minibatch, (tuple, list)) and len(minibatch) == 2 and isinstance(minibatch[0], Mapping):
            minibatch = dict(minibatch[0]), minibatch[1]
        # Tensors of inference mode could not be saved for a backward pass.
        minibatch = tree_map_only(Tensor, lambda t: t.clone() if t.is_inference() else t, minibatch)
        if isinstance(minibatch, (tuple, list)) and any(type(part).__module__ == "numpy" for part in minibatch):
            raise ValueError(f"minibatch {index} holds numpy arrays; make them tensors: torch.from_numpy(array)")
        if isinstance(minibatch, Mapping):
            yield minibatch, minibatch.get("labels")
        elif isinstance(minibatch, (tuple, list)) and len(minibatch) == 2:
            yield minibatch[0], minibatch[1]
        else:
            form = f"{type(minibatch).__name__}" + (f" of {len(minibatch)}" if isinstance(minibatch, Sized) else "")
            raise ValueError(
                f"minibatch {index} is a {form}; a pair (inputs, targets) is needed, or a dict that the model takes by "
                "keywords; several inputs go as ((first, second), targets)"
            )


def call(model: nn.Module, inputs: Any) -> Any:
    """Return a model's outputs: a dict of inputs goes by keywords, a tuple or list by position.

    A tuple goes as one argument, and a dict without its ``labels``, to a model that does not take it otherwise.
    """
    if isinstance(inputs, Mapping):
        without = {name: value for name, value in inputs.items() if name != "labels"}
        for arguments in (dict(inputs), without):
            if _takes(model, (), arguments):
                return model(**arguments)
        raise ValueError(f"{type(model).__name__} does not take {form_of(inputs)} by keywords; it has other inputs")
    if isinstance(inputs, (tuple, list)) and _takes(model, inputs, {}):
        return model(*inputs)
    return model(inputs)


def _takes(model: nn.Module, by_position: Sequence[Any], by_name: dict[str, Any]) -> bool:
    try:
        inspect.signature(model.forward).bind(*by_position, **by_name)
    except TypeError:
        return False
    except ValueError:  # a scripted module has no signature
        pass
    return True


def loss_of(model: nn.Module, loss: Loss | None, outputs: Any, targets: Any) -> Tensor:
    """Return the loss of a minibatch as one number. Without a loss function it is the model's own ``outputs.loss``."""
    if loss is None:
        value = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
        if value is None:
            raise ValueError(
                f"loss is None, but {type(model).__name__} returned {form_of(outputs)}, which holds no loss; pass a "
                "loss function, or minibatches with the labels that the model needs for its own"
            )
        return mean_loss(value)
    try:
        value = loss(outputs, targets)
    except torch.OutOfMemoryError:
        raise
    except (TypeError, AttributeError, KeyError, IndexError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"the loss does not take outputs that are {form_of(outputs)} with targets that are {form_of(targets)}: "
            f"{str(error).partition(chr(10))[0]}"
        ) from error
    return mean_loss(value)


def mean_loss(loss: object) -> Tensor:
    """Return a loss that is one number."""
    if not isinstance(loss, Tensor):
        raise TypeError(f"loss returned {shown(loss)}; a tensor that holds the mean over the minibatch is needed")
    if loss.numel() != 1:
        raise ValueError(
            f"loss returned a tensor of shape {tuple(loss.shape)}; one number is needed, the mean over the minibatch "
            '(reduction="mean")'
        )
    return loss.reshape(())


def weight_of(model: nn.Module, loss: Loss | None, inputs: Any, targets: Any) -> float:
    """Return what a minibatch's mean loss was divided by, so that a mean over all does not depend on how data are cut.

    That is the number of targets. Class numbers that the loss ignores count nothing, and class weights count as they
    do in ``torch.nn.CrossEntropyLoss``.
    """
    if not isinstance(targets, Tensor):  # several targets, or none: the number of examples
        return float(examples(targets if targets is not None else inputs))
    if targets.is_floating_point() or targets.is_complex() or targets.dtype is torch.bool:
        return float(targets.numel())
    options: Any = loss.keywords if isinstance(loss, partial) else vars(loss) if isinstance(loss, nn.Module) else {}
    options = {**options, **(loss._buffers if isinstance(loss, nn.Module) else {})}
    if loss is None and type(model).__name__.endswith(("ForCausalLM", "LMHeadModel")):  # as transformers names them
        targets = targets[..., 1:]  # each label is predicted from those before it
    valid = targets[targets != options.get("ignore_index", IGNORED)]
    weights = options.get("weight")
    return float(valid.numel() if weights is None else weights[valid].sum())


def examples(tree: Any) -> int:
    """Return the number of examples in inputs or targets."""
    for leaf in tree_leaves(dict(tree) if isinstance(tree, Mapping) else tree):
        if isinstance(leaf, Tensor) and leaf.ndim:
            return len(leaf)
    raise ValueError(f"a minibatch is {form_of(tree)}; a tensor with the examples along its first dimension is needed")


def logits_of(outputs: Any) -> Tensor:
    """Return the tensor of classes in what a model returned: itself, its ``logits``, or the first of a tuple."""
    if isinstance(outputs, Tensor):
        return outputs
    found = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    if found is None and isinstance(outputs, (tuple, list)):
        found = next((t for t in outputs if isinstance(t, Tensor) and t.ndim), None)
    if not isinstance(found, Tensor):
        raise ValueError(
            f"the model returned {form_of(outputs)}, and which of it are classes is unknown; pass score=, a function "
            "of (outputs, targets) that returns one number for each example"
        )
    return found


def right(outputs: Any, targets: Any) -> Tensor:
    """Return 1 for each target that a classifier meets and 0 for the others, NaN for targets that are ignored.

    The forms of targets are: class numbers ``(n,)`` or ``(n, 1)`` for outputs ``(n, classes)``; class numbers for each
    place, ``(n, …)``, for outputs ``(n, classes, …)`` or ``(n, tokens, classes)``; one-hot or other probabilities
    ``(n, classes)``; 0 and 1 for one logit, outputs ``(n,)`` or ``(n, 1)``. Outputs that are not finite meet nothing.
    """
    logits = logits_of(outputs)
    refusal = ValueError(
        f"an accuracy of outputs {tuple(logits.shape)} and targets that are {form_of(targets)} has no one meaning; "
        "pass score=, a function of (outputs, targets) that returns one number for each example"
    )
    if not isinstance(targets, Tensor) or not logits.ndim or not targets.ndim or len(logits) != len(targets):
        raise refusal
    n, whole = len(logits), not (targets.is_floating_point() or targets.is_complex())
    if logits.numel() == n:  # one logit
        labels = targets.reshape(-1)
        if labels.numel() != n or not bool(((labels == 0) | (labels == 1)).all()):
            raise refusal
        met = (logits.reshape(-1) > 0) == (labels > 0)
        hit: Tensor = met & logits.reshape(-1).isfinite()
        return hit.double()
    if whole and targets.shape == (n, 1) and logits.ndim == 2:
        targets = targets[:, 0]
    if whole and targets.shape != logits.shape:
        # torch's losses have the classes second; language models have them last.
        dimensions = (1, 2) if logits.ndim == 3 else (1,)
        places = [d for d in dimensions if logits.shape[:d] + logits.shape[d + 1 :] == targets.shape]
        if len(places) != 1:
            raise refusal
        classes = places[0]
        hit = (logits.argmax(classes) == targets) & logits.isfinite().all(classes)
        return hit.double().masked_fill(targets == IGNORED, torch.nan)
    probabilities = targets.double()
    sums = probabilities.sum(1)
    if targets.shape != logits.shape or logits.ndim != 2 or not torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        raise refusal
    hit = (logits.argmax(1) == probabilities.argmax(1)) & logits.isfinite().all(1)
    return hit.double()


def scores_of(score: Score | None, inputs: Any, outputs: Any, targets: Any) -> Tensor:
    """Return the scores of a minibatch: one for each example; by default 100 for each right target and 0 for others."""
    if score is None:
        met = right(outputs, targets).flatten()
        return 100.0 * met[~met.isnan()]
    values = torch.as_tensor(score(outputs, targets)).detach().double().flatten()
    return values.expand(examples(inputs)) if values.numel() == 1 else values  # one number is the mean of all


def form_of(value: Any) -> str:
    """Return what a value is, for a message: shapes, names of entries, types."""
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}".removeprefix("torch.")
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with {', '.join(map(repr, list(value)[:6])) or 'no entry'}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"
