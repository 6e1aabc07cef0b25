"""Fine-tuning of pretrained transformers: weights, texts, encoders, adapters. One thing a file."""

from lookbehind.fine_tuning.adapters import LowRank, add_adapters, merge_adapters, unmerge_adapters
from lookbehind.fine_tuning.domain_tags import Phrases
from lookbehind.fine_tuning.encoder import ENCODERS, Lower, TextClassifier, encoder_folder, text_classifier
from lookbehind.fine_tuning.groups import parameter_groups, set_radii
from lookbehind.fine_tuning.pretrained import find_weights, load_weights
from lookbehind.fine_tuning.texts import TEXTS, Corpus, load_texts

__all__ = [
    "ENCODERS",
    "TEXTS",
    "Corpus",
    "LowRank",
    "Lower",
    "Phrases",
    "TextClassifier",
    "add_adapters",
    "encoder_folder",
    "find_weights",
    "load_texts",
    "load_weights",
    "merge_adapters",
    "parameter_groups",
    "set_radii",
    "text_classifier",
    "unmerge_adapters",
]
