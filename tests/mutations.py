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
MEASURE = ("tests/measure/test_any_model.py",)
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
        "        torch._foreach_copy_(local_tensors(targets), local_tensors(sources))",
        "        for t, s in zip(targets, sources, strict=True):\n            t.data = s.detach().clone()",
    ),
    Mutation(
        "weights restored by subtracting the perturbation",
        (
            ("ascent.py", "        start = 0\n", "        self.__dict__['last'] = weights, [d / length for d in direction], parts[0][0][self.rho_key]\n        start = 0\n"),
            ("sam.py", "        step.restore()  # φ\n", "        w, e, r = self.ascent.__dict__['last']\n        __import__('torch')._foreach_sub_(w, e, alpha=r)\n"),
        ),
    ),
    mutation("one norm for each tensor", "perturbation.py", "return gradients, norm(gradients)", "return gradients, [norm([g]) for g in gradients]"),
    mutation("norm of half-precision gradients in their own precision", "_tensors.py", "found = list(torch._foreach_norm(tensors, 2, dtype=wide(first.dtype)))", "found = list(torch._foreach_norm(tensors, 2))"),
    mutation("NaN for a zero gradient", "_tensors.py", "max(length.item(), torch.finfo(length.dtype).tiny)", "(length.item() or float('nan'))"),
    mutation("NaN for a zero gradient on a device", "_tensors.py", "length.clamp_min(torch.finfo(length.dtype).tiny).reciprocal_()", "length.reciprocal()"),
    mutation("2k gradients instead of k + 1", "ascent.py", "needs_gradient=self.needs_gradient and (i == 1 or switching)", "needs_gradient=self.needs_gradient"),
    mutation("line 6 left out when minibatches switch", "ascent.py", "needs_gradient=self.needs_gradient and (i == 1 or switching)", "needs_gradient=self.needs_gradient and i == 1"),
    mutation("the first perturbation used for every ascent", "ascent.py", "        start = 0\n", "        direction = self.__dict__.setdefault('stale', [d.clone() for d in direction])\n        start = 0\n"),
    mutation("descent along the ascent's gradient", "ascent.py", "        step.gradient(inner.closure, sync=self.sync or (sync and not inner.gradient_climbs_too))", "        _ = sync"),
    mutation("rho taken from the first group for all", "ascent.py", "group[self.rho_key])", "step.groups[0][0][self.rho_key])"),
    mutation("the ascent of a maximised group goes up", "ascent.py", '[-g for g in gradients] if group.get("maximize") else gradients', "gradients"),
    mutation("alpha swapped with 1 - alpha in Lookbehind", "lookbehind.py", 'lerp_from_(params, slow, group[', 'lerp_from_(params, slow, 1.0 - group['),
    mutation("alpha swapped with 1 - alpha in Lookahead", "lookahead.py", '1.0 - group[self.group_key("alpha")]', 'group[self.group_key("alpha")]'),
    mutation("base steps at the perturbed weights", "_step.py", "        if at is not None:\n", "        if False:\n"),
    mutation("adaptive alpha from the last fast step instead of the first", "lookbehind.py", "            if inner.number == 1:\n", "            if True:\n"),
    mutation("the base's result lost between inner steps", "_step.py", "            copy_(to, self.params)\n", ""),
    mutation("the climb goes on from the fast weights", "_step.py", "            copy_(self.params, aside)\n", ""),
    mutation("one adaptive alpha for each tensor where one is asked for", "lookbehind.py", 'if self.adaptive == "adaptive":\n            sums', 'if False:\n            sums'),
    mutation("adaptive alpha without the half", "lookbehind.py", "(cosine + 1) / 2", "cosine"),
    mutation("ASAM scales once instead of twice", "perturbation.py", "        torch._foreach_mul_(t_g, t)\n", ""),
    mutation("ASAM without eta", "perturbation.py", "torch._foreach_add_(t, self.eta)", "torch._foreach_add_(t, 0.0)"),
    mutation("mean over k + 1 gradients", "multistep_sam.py", "mean.put(step.params, self.k)", "mean.put(step.params, self.k + 1)"),
    mutation("the mean's buffer left in .grad", "multistep_sam.py", "                p.grad = total.clone()\n", "                p.grad = total\n"),
    mutation("loss of the last pass returned", "_evaluation.py", "            self.loss = _copied(loss)", "            pass\n        if True:\n            self.loss = _copied(loss)"),
    mutation("the closure's own loss returned", "_evaluation.py", "        return loss.detach().clone()\n", "        return loss.detach()\n"),
    mutation("gradients of earlier passes added", "_evaluation.py", "            self._forget_gradients()\n", "            pass\n"),
    mutation("a closure's own gradients thrown away", "_evaluation.py", "writes if was == NONE]", "writes]"),
    mutation("autocast's cache kept", "_modes.py", "    torch.clear_autocast_cache()\n", ""),
    mutation("cached parametrizations kept", "_modes.py", "        parametrize._cache.clear()\n", "        pass\n"),
    mutation("nothing restored when a step fails", "_wrapper.py", "            uninterrupted(rollback.restore)\n", "            pass\n"),
    mutation("a second Ctrl-C ends the restoring", "_wrapper.py", "            uninterrupted(rollback.restore)\n", "            rollback.restore()\n"),
    mutation("gradients left off after Ctrl-C", "_rollback.py", "            torch._C._set_grad_enabled(enabled)", "            torch.set_grad_enabled(enabled)"),
    mutation("base state kept when a step is skipped", "_wrapper.py", 'full = self.rollback == "full" or (self._skips(evaluator) and self._state_moves_first())', 'full = self.rollback == "full"'),
    mutation("a rule's state kept when a step is skipped", "ascent.py", "return super()._state_moves_first() or self.ascent.keeps_state", "return super()._state_moves_first()"),
    mutation("counters kept when a step fails", "_rollback.py", "            group.update({key: back() for key, back in values.items()})\n", "            pass\n"),
    mutation("state put back in another tensor", "_rollback.py", "        return lambda: value.copy_(kept)\n", "        return lambda: kept\n"),
    mutation("BatchNorm statistics of every pass", "_evaluation.py", "kept = [] if first else [buffer.clone() for buffer in self.statistics]", "kept = []"),
    mutation("base state left out of checkpoints", "_wrapper.py", "        state_dict = self.base.state_dict()\n        for post_hook", '        state_dict = {**self.base.state_dict(), "state": {}}\n        for post_hook'),
    mutation("groups parted from the base's when loading", "_wrapper.py", "        return self.base.param_groups\n", '        return self.__dict__.setdefault("groups", self.base.param_groups)\n'),
    mutation("deepcopy drops the base, as torch's own __getstate__", "_wrapper.py", 'dropped = ("step",', 'dropped = ("base", "step",'),
    mutation("slow weights left out of checkpoints", "lookahead.py", '        return self._buffers.saved("slow", params, torch.clone)', '        return self._buffers.scratch("slow", params)'),
    mutation("slow weights stay those of construction", "lookahead.py", "        if self.cycle_step == 0:\n            copy_(slow, step.start)", "        if False:\n            copy_(slow, step.start)"),
    mutation("slow weights do not see that weights are loaded", "lookahead.py", "        known = [p for p in params if p in self._last and self._last[p].shape == p.shape]\n", "        known: list[Tensor] = []\n"),
    mutation("slow weights of a frozen layer kept", "lookahead.py", '        self._buffers.drop("slow", [p for p in self._last if p not in mine])\n', ""),
    mutation("the inner view of slow weights ends the outer", "lookahead.py", "if self.outermost and self.depth == 0:", "if True:"),
    mutation("the base sees the saved buffers", "_wrapper.py", "        taken = self._buffers.take()\n        try:", "        taken: Any = {}\n        try:"),
    mutation("host waits for the norm", "_tensors.py", "    if isinstance(length, Tensor) and on_host(length)", "    if isinstance(length, Tensor) and length.item() >= 0 and on_host(length)"),
    mutation("a copy made anew at each step", "_buffers.py", "        if not (len(known) == len(params)", "        self.__dict__.setdefault('all', []).append(tensors)\n        if True or not (len(known) == len(params)"),
    mutation("a second wrapper keeps the first one's numbers", "_wrapper.py", "        unwrap(self.base)\n", ""),
    mutation("numbers in groups unchecked", "_wrapper.py", "        self._require_entries()\n", ""),
    mutation("a checkpoint of any method loads", "_wrapper.py", "        self._require_same_method(groups)\n", ""),
    mutation("shared memory goes unnoticed", "_identity.py", "if following < place + size:", "if False:"),
    mutation("only the first pass unscaled", "_evaluation.py", "        if not done:\n", "        if not done and self.number == 0:\n            done = []\n        if not done and self.number == 0:\n", REAL),
    mutation("unscaled again where the closure has", "_evaluation.py", 'and note["found_inf_per_device"]]', "and False]", ("tests/conformance/test_everyday.py",)),
    mutation("a GradScaler remembers a failed step", "_evaluation.py", "            self._notes().pop(id(optimizer), None)\n", "            pass\n", REAL),
    mutation("the scaler's skip counted as the optimizer's own", "_wrapper.py", "            if evaluator.scaler is None:\n                self._set", "            if True:\n                self._set", REAL),
    mutation("shared masks drawn anew", "_evaluation.py", "            set_random_state(self._random)", "            pass", REAL),
    mutation("each rank descends along its own gradient", "_step.py", "            self._average()\n", "            pass\n", REAL),
    mutation("a rank ascends along the averaged gradient", "_step.py", "                p.grad = gradient\n", "                pass\n", REAL),
    mutation("ranks do not agree on an overflow", "_evaluation.py", "            bad = any_rank(bad, self.params, None if sync else self.model)\n", "            pass\n", REAL),
    mutation("the norm of a shard taken for the whole", "_tensors.py", "    if any_dtensor(like):\n", "    if False:\n", REAL),
    mutation("hooks of all optimizers passed over", "_wrapper.py", "any(own + of_all)", "any(own)"),
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
    mutation("a measurement under the caller's autocast", "measure/_untouched.py", "            modes.enter_context(torch.autocast(kind, enabled=False))\n", "            pass\n", MEASURE),
    mutation("a measurement in inference mode", "measure/_untouched.py", "        modes.enter_context(torch.inference_mode(False))\n", "", MEASURE),
    mutation("a measurement keeps its random state", "measure/_untouched.py", "            set_random_state(random)\n", "", MEASURE),
    mutation("buffers not put back in their places", "measure/_untouched.py", "                _put_back(module, attributes)\n", "                pass\n", MEASURE),
    mutation("other dropout masks at each point", "measure/sharpness.py", "    set_random_state(random)  # the same dropout masks at every point\n", "", MEASURE),
    mutation("caches of other weights in a measurement", "measure/sharpness.py", "    clear_weight_caches()\n", "", MEASURE),
    mutation("ignored targets count", "_minibatch.py", 'targets[targets != options.get("ignore_index", IGNORED)]', "targets.flatten()", MEASURE),
    mutation("class weights do not count", "_minibatch.py", "valid.numel() if weights is None else weights[valid].sum()", "valid.numel()", MEASURE),
    mutation("NaN is a class", "_minibatch.py", " & logits.isfinite().all(classes)", "", MEASURE),
    mutation("one logit is class 0", "_minibatch.py", "        met = (logits.reshape(-1) > 0) == (labels > 0)\n", "        met = labels == 0\n", MEASURE),
    mutation("the last dimension always holds the classes", "_minibatch.py", "(1, 2) if logits.ndim == 3 else (1,)", "(logits.ndim - 1,)", MEASURE),
    mutation("batch norm keeps old statistics", "measure/noise.py", "        layer.reset_running_stats()\n", "        pass\n", ("tests/measure/test_noise.py", *MEASURE)),
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
