"""A dictionary and an encoder of the published formats, small and written here."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from lookbehind.fine_tuning.domain_tags import CLASSES

WORDS = ("stone", "river", "engine", "leaf", "paper", "signal", "bird", "loop", "salt", "court", "thread", "bone")
DIM, LAYERS = 16, 3


def dictionary(root: Path, per_class: int = 12) -> Path:
    """Write a dictionary in which a word betrays the subject."""
    lines = ["# Version :: of the tests"]
    for number, tag in enumerate(CLASSES):
        for i in range(per_class):
            german = f"Wort{number}x{i} {{n}} [{tag}.] | Wörter {{pl}}"
            lines.append(f"{german} :: w{number} {WORDS[i % 12]} x{i}; variant (of it) | w{number} others")
    path = root / "trans-de-en" / "de-en"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def encoder(folder: Path, *, dropout: float = 0.1, prefix: str = "") -> Path:
    """Write a random BERT with its tokenizer."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *(f"w{i}" for i in range(20)), *(f"x{i}" for i in range(12))]
    cutter = Tokenizer(models.WordLevel({word: i for i, word in enumerate(known)}, unk_token="[UNK]"))
    cutter.normalizer = normalizers.Lowercase()
    cutter.pre_tokenizer = pre_tokenizers.Whitespace()
    cutter.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    cutter.save(str(folder / "tokenizer.json"))
    config = BertConfig(
        vocab_size=len(known),
        hidden_size=DIM,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=20,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    torch.manual_seed(7)
    bert = BertModel(config)
    for name, p in bert.named_parameters():  # of deviation 0.02 it would do next to nothing
        p.data.normal_(mean=float(name.endswith("LayerNorm.weight")), std=0.3)
    save_file({prefix + name: value for name, value in bert.state_dict().items()}, folder / "model.safetensors")
    return folder
