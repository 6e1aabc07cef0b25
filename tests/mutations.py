"""Does the suite bite? Apply one small fault at a time to a copy of the package, and report which tests catch it.

    python -m tests.mutations            # every mutation
    python -m tests.mutations norm BN    # those whose name contains one of the words

A mutation that no test catches survives, and the exit code is 1.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUITES = ("tests/oracle", "tests/laws", "tests/conformance")
REAL = tuple(
    f"tests/real_training/test_{part}.py" for part in ("mixed_precision", "accumulation_and_dropout", "processes")
)

LIFELONG = ("tests/lifelong/test_algorithms.py", "tests/lifelong/test_memory.py", "tests/lifelong/test_metrics.py")
TRANSLATION = tuple(f"tests/translation/test_{part}.py" for part in ("bleu", "loss_and_rates", "search"))
FINE_TUNING = ("tests/fine_tuning/test_adapters.py", "tests/fine_tuning/test_encoder.py")
PACKAGE = Path("src") / "lookbehind"


@dataclass(frozen=True)
class Mutation:
    """A fault: in each (file, old, new), `old` stands once in the file and is replaced by `new`.

    A file without folder is one of ``optim``.
    """

    name: str
    edits: tuple[tuple[str, str, str], ...]
    suites: tuple[str, ...] = SUITES


def mutation(name: str, file: str, old: str, new: str, suites: tuple[str, ...] = SUITES) -> Mutation:
    return Mutation(name, ((file, old, new),), suites)


MUTATIONS = [
    mutation(
        "weights restored by rebinding .data",
        "_tensors.py",
        "        torch._foreach_copy_(shard(targets), shard(sources))",
        "        for t, s in zip(targets, sources, strict=True):\n            t.data = s.detach().clone()",
    ),
    Mutation(
        "weights restored by subtracting the perturbation",
        (
            ("climb.py", "        start = 0\n", "        self._last = weights, [e / length for e in epsilon], parts[0][0]\n        start = 0\n"),
            (
                "sam.py",
                "copy_(self._weights, slow)",
                "add_(*self._last[:2], -self._last[2])",
            ),
            ("sam.py", "import copy_", "import add_"),
        ),
    ),
    mutation("one norm for each tensor", "perturbation.py", "return gradients, norm(gradients)", "return [unit([g], norm([g]))[0] for g in gradients], torch.ones(())"),
    mutation("norm of half-precision gradients in their own precision", "_tensors.py", "torch._foreach_norm(group, 2, dtype=dtype)", "torch._foreach_norm(group, 2)"),
    mutation("NaN for a zero gradient", "_tensors.py", "max(length.item(), torch.finfo(length.dtype).tiny)", "(length.item() or float('nan'))"),
    mutation("NaN for a zero gradient on a device", "_tensors.py", "length.clamp_min(torch.finfo(length.dtype).tiny).reciprocal_()", "length.reciprocal()"),
    mutation("2k gradients instead of k + 1", "climb.py", "if i == 1 or switching:", "if True:"),
    mutation("line 6 left out when minibatches switch", "climb.py", "if i == 1 or switching:", "if i == 1:"),
    mutation("the first perturbation used for every ascent", "climb.py", "epsilon, length = direction(self.perturbation, weights, gradients)", 'epsilon, length = self.__dict__.setdefault("stale", direction(self.perturbation, weights, [g.clone() for g in gradients]))'),
    mutation("descent along the ascent's gradient", "climb.py", "            self._gradient(closure, perturbed=True, local=alone and ascends_again)", "            _ = closure"),
    mutation("rho taken from the first group for all", "climb.py", "parts = [(group[rho],", "parts = [(self.param_groups[0][rho],"),
    mutation("alpha swapped with 1 - alpha in Lookbehind", "lookbehind.py", 'float(group[self.group_key("alpha")])', '1.0 - float(group[self.group_key("alpha")])'),
    mutation("alpha swapped with 1 - alpha in Lookahead", "lookahead.py", '1.0 - group[self.group_key("alpha")]', 'group[self.group_key("alpha")]'),
    mutation("base steps at the perturbed weights", "lookbehind.py", "            with self._places.changed():\n", "            if True:\n"),
    mutation("adaptive alpha from the last fast step instead of the first", "lookbehind.py", "            if i == 1:\n", "            if True:\n"),
    mutation("one adaptive alpha for each tensor where one is asked for", "lookbehind.py", 'if self.adaptive == "adaptive":\n            sums', 'if False:\n            sums'),
    mutation("adaptive alpha without the half", "interpolation.py", "(cosine + 1) / 2", "cosine"),
    mutation("ASAM scales once instead of twice", "perturbation.py", "        torch._foreach_mul_(t_g, t)\n", ""),
    mutation("ASAM without eta", "perturbation.py", "torch._foreach_add_(t, self.eta)", "torch._foreach_add_(t, 0.0)"),
    mutation("mean over k + 1 gradients", "multistep.py", "mean.put(self._weights, self.k)", "mean.put(self._weights, self.k + 1)"),
    mutation("the mean's buffer left in .grad", "multistep.py", "                p.grad = total.clone()\n", "                p.grad = total\n"),
    mutation("loss of the last pass returned", "_passes.py", "        if self.number == 0:\n", "        if True:\n"),
    mutation("nothing restored when a step fails", "_wrapper.py", "            uninterrupted(before.restore)\n", "            pass\n"),
    mutation("a second Ctrl-C ends the restoring", "_wrapper.py", "            uninterrupted(before.restore)\n", "            before.restore()\n"),
    mutation("gradients left off after Ctrl-C", "_snapshot.py", "            torch._C._set_grad_enabled(enabled)", "            torch.set_grad_enabled(enabled)"),
    mutation("base state kept when a step is skipped", "_wrapper.py", 'full = self.rollback == "full" or (skipping and not self.base_moves_last)', 'full = self.rollback == "full"'),
    mutation("counters kept when a step fails", "_snapshot.py", "            group.update(entries)\n", "            pass\n"),
    mutation("BatchNorm statistics of every pass", "_passes.py", "optimizer._statistics() if perturbed else []", "[]"),
    mutation("base state left out of checkpoints", "_wrapper.py", "self._pack(self.base.state_dict())", 'self._pack({**self.base.state_dict(), "state": {}})'),
    mutation("groups parted from the base's when loading", "_wrapper.py", "        return self.base.param_groups\n", '        return self.__dict__.setdefault("groups", self.base.param_groups)\n'),
    mutation("deepcopy drops the base, as torch's own __getstate__", "_wrapper.py", 'dropped = ("step",', 'dropped = ("base", "step",'),
    mutation("slow weights left out of checkpoints", "lookahead.py", "            if p.requires_grad:\n", "            if False:\n"),
    mutation("slow weights stay those of construction", "lookahead.py", "        if self.cycle_step == 0:\n            copy_(slow, self._weights)", "        if False:\n            copy_(slow, self._weights)"),
    mutation("host waits for the norm", "_tensors.py", "    if on_host(length) and", "    if length.item() >= 0 and on_host(length) and"),
    mutation("a copy made anew at each step", "_wrapper.py", "            if k is None or", "            if k is not None:\n                held[object()] = k\n            if True or"),
    mutation("only the first pass unscaled", "_passes.py", "        if self.scaler is not None:\n", "        if self.scaler is not None and self.number == 0:\n", REAL),
    mutation("a GradScaler remembers the faces of a failed step", "_wrapper.py", "                self._faces = []\n", "", REAL),
    mutation("the scaler's skip counted as the optimizer's own", "_wrapper.py", "            if passes.scaler is None:\n                self._set", "            if True:\n                self._set", REAL),
    mutation("shared masks drawn anew", "_passes.py", "                set_random_state(self.random)", "                pass", REAL),
    mutation("each rank descends along its own gradient", "climb.py", "                average_(gradients, self.model)\n", "", REAL),
    mutation("a rank ascends along the averaged gradient", "climb.py", "                copy_(gradients, own)\n", "                del own\n", REAL),
    mutation("ranks do not agree on an overflow", "_passes.py", "            bad = agree(bad, optimizer.model)\n", "            pass\n", REAL),
    mutation("the norm of a shard taken for the whole", "_tensors.py", "    return whole(torch.linalg.vector_norm(torch.stack(norms)))", "    return torch.linalg.vector_norm(torch.stack([n.to_local() if hasattr(n, 'to_local') else n for n in norms]))", REAL),
    mutation("hooks of all optimizers passed over", "_wrapper.py", "any(own + of_all)", "any(own)"),
    mutation("the outer step taken from the perturbed weights", "lookbehind.py", "        copy_(weights, slow)\n", ""),
    mutation("what a base puts into new tensors lost", "_memory.py", "                    other.copy_(t)\n", "                    pass\n"),
    mutation("memory left that others share", "_memory.py", " and t.untyped_storage().nbytes() == t.nbytes", ""),
    mutation("weights elsewhere after a failure", "_snapshot.py", "            self.optimizer._places.restore()\n", ""),
    mutation("the call of a derived rule passed over", "perturbation.py", " and type(rule).__call__ is Directed.__call__", ""),
    # Lifelong learning.
    mutation("each ascent of Lookbehind-C-MAML from phi", "lifelong/lookbehind_maml.py", '{"continue": behind, "restart": phi, "fast": fast}', '{"continue": phi, "restart": phi, "fast": fast}', LIFELONG),
    mutation("the meta-gradient at the slow weights", "lifelong/lookbehind_maml.py", "moved(fast if self.meta_point == \"fast\" else phi, climb(up), rho)", "moved(phi, climb(up), rho)", LIFELONG),
    mutation("the memory keeps the newest", "lifelong/memory.py", "torch.randint(self.seen + self.published, (), generator=self._generator)", "torch.randint(self.capacity, (), generator=self._generator)", LIFELONG),
    mutation("forgetting of the last task counted", "lifelong/metrics.py", "/ (t - 1)\n\n\ndef backward_transfer", "/ t\n\n\ndef backward_transfer", LIFELONG),
    # Translation.
    mutation("smoothing over all tokens, as torch's", "translation/loss.py", "label_smoothing=self.epsilon * size / (size - 1)", "label_smoothing=self.epsilon", TRANSLATION),
    mutation("the search does not count a translation's end", "translation/search.py", "top[row, column].item() / length", "top[row, column].item() / max(1, length - 1)", TRANSLATION),
    mutation("rates fall with steps, not their root", "translation/schedule.py", "(warmup / steps) ** 0.5", "(warmup / steps)", TRANSLATION),
    mutation("tokens with capitals", "translation/bleu.py", "tokenize(sentence.lower(),", "tokenize(sentence,", TRANSLATION),
    # Fine-tuning.
    mutation("adapters without their scale", "fine_tuning/adapters.py", "self.scale = scale / rank", "self.scale = scale", FINE_TUNING),
    mutation("padding counted in a text's mean", "fine_tuning/encoder.py", "mean = (tokens * weight).sum(1) / weight.sum(1).clamp(min=1)", "mean = tokens.mean(1)", FINE_TUNING),
]  # fmt: skip


def place(name: str) -> Path:
    """Return the file that a mutation names."""
    return PACKAGE / (name if "/" in name or (ROOT / PACKAGE / name).exists() else f"optim/{name}")


def run(mutant: Mutation) -> tuple[list[str], str]:
    """Return the tests that fail on the mutant (the first few), and pytest's last line."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(ROOT / "src", copy / "src")
        shutil.copytree(ROOT / "tests", copy / "tests")
        shutil.copy(ROOT / "pyproject.toml", copy)
        for name, old, new in mutant.edits:
            file = copy / place(name)
            text = file.read_text()
            if text.count(old) != 1:
                raise SystemExit(f"{mutant.name}: {old!r} stands {text.count(old)} times in {name}; 1 is needed")
            file.write_text(text.replace(old, new))
        environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--tb=no",
            "--maxfail=3",
            "-p",
            "no:cacheprovider",
            *mutant.suites,
        ]
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=1200)
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+?::\S+|\S+)", done.stdout, flags=re.MULTILINE)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{mutant.name}: pytest did not run the tests\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return failed, done.stdout.strip().splitlines()[-1]


def main(words: list[str]) -> int:
    """Run the chosen mutations and print a line for each; return 1 if one survives."""
    survivors = []
    chosen = [m for m in MUTATIONS if not words or any(word in m.name for word in words)]
    for number, mutant in enumerate(chosen, 1):
        failed, last = run(mutant)
        caught = ", ".join(
            test.split("::", 1)[0].removeprefix("tests/") + "::" + test.split("::")[-1] for test in failed
        )
        print(
            f"[{number}/{len(chosen)}] {mutant.name}: {'caught by ' + caught if failed else 'SURVIVES (' + last + ')'}",
            flush=True,
        )
        if not failed:
            survivors.append(mutant.name)
    print(
        f"{len(chosen) - len(survivors)} of {len(chosen)} mutations caught"
        + "".join(f"\n  survives: {s}" for s in survivors)
    )
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
