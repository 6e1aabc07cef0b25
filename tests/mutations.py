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
LAWS = "tests/laws/test_"
REAL = tuple(
    f"tests/real_training/test_{part}.py" for part in ("mixed_precision", "accumulation_and_dropout", "processes")
)

LIFELONG = ("tests/lifelong/test_algorithms.py", "tests/lifelong/test_memory.py", "tests/lifelong/test_metrics.py")
TRANSLATION = tuple(f"tests/translation/test_{part}.py" for part in ("bleu", "loss_and_rates", "search"))
GRADIENTS = ("tests/conformance/test_gradients.py",)
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
    mutation('Momentum-SAM climbs along the momentum', 'momentum_sam.py', 'opposite=True)', 'opposite=False)'),
    mutation('a displacement from the wrong end', 'momentum_sam.py', 'add_(displacement, step.start, -1.0)', 'add_(displacement, step.start, 1.0)'),
    mutation('a momentum that is not found is a plain step', 'momentum_sam.py', '        elif moved:', '        elif False:'),
    mutation('GSAM takes the whole clean gradient away', 'gsam.py', 'step.combine(1.0 + self.alpha * along, g, -self.alpha)', 'step.combine(1.0, g, -self.alpha)'),
    mutation('GSAM descends across', 'gsam.py', 'step.combine(1.0 + self.alpha * along, g, -self.alpha)', 'step.combine(1.0 - self.alpha * along, g, self.alpha)'),
    mutation("GNP's weights exchanged", 'gnp.py', 'step.combine(self.alpha, g, 1.0 - self.alpha)', 'step.combine(1.0 - self.alpha, g, self.alpha)'),
    mutation("WSAM's weight is gamma", 'gnp.py', 'super().__init__(base, rho, gamma / (1.0 - gamma), perturbation', 'super().__init__(base, rho, gamma, perturbation'),
    mutation("WSAM's difference in a maximised group", 'gnp.py', 'self.alpha if group.get("maximize") else -self.alpha', '-self.alpha'),
    mutation("StableSAM at SAM's length", 'stable_sam.py', '        step.scale_gradients(ratio(length, step.norm([p.grad for p in step.params])))\n', '        _ = ratio, length\n'),
    mutation("StableSAM at the square of the ratio of lengths", 'stable_sam.py', 'step.scale_gradients(ratio(length, ', 'step.scale_gradients(ratio(length * length, '),
    mutation("StableSAM and GSAM where a quotient overflows", '_tensors.py', '.nan_to_num_(nan=float("nan"), posinf=0.0, neginf=0.0) + (a - a)', ' + (a - a)'),
    mutation("a quotient hides an infinite gradient of GSAM", '_tensors.py', 'neginf=0.0) + (a - a).to(b.dtype)', 'neginf=0.0)'),
    mutation("GSAM's correction along the clean gradient", 'gsam.py', 'along = ratio(ratio(step.dot(g, g_s), length), length)', 'along = ratio(ratio(step.dot(g, g), length), length)'),
    mutation("GNP adds the clean gradient whole", 'gnp.py', 'step.combine(self.alpha, g, 1.0 - self.alpha)', 'step.combine(self.alpha, g, 1.0)'),
    mutation("WSAM's difference at no rate", 'gnp.py', 'scale_([d for _, d in held], group["lr"] if isinstance(group["lr"], Tensor) else float(group["lr"]))', '_ = scale_, Tensor'),
    mutation("WSAM's difference within the base's step", 'gnp.py', '        if not self.decoupled:\n', '        if True:\n'),
    mutation("LE-SAM's limit of the gradient, not of the radius", 'perturbation.py', 'torch.maximum(length, length * (length / self.limit))', 'torch.maximum(length, length / self.limit)'),
    mutation("LE-SAM's radius without a maximum", 'perturbation.py', 'length = torch.maximum(length, length * (length / self.limit))', 'length = length * (length / self.limit)'),
    mutation("Friendly-SAM's orders are one", 'friendly_sam.py', 'before if self.order == "official" else after', 'after'),
    mutation('Friendly-SAM adds the average', 'friendly_sam.py', '[m for _, m in both], -self.sigma)', '[m for _, m in both], self.sigma)'),
    mutation("Friendly-SAM's paper average begins at the gradient", 'friendly_sam.py', 'from_zero = self.order == "paper"', 'from_zero = False'),
    mutation('VaSSO climbs along the gradient', 'vasso.py', 'self.ascent.ascend(step, d)', 'self.ascent.ascend(step)'),
    mutation("an average that a checkpoint's probe has made counts", 'ascent.py', 'for name in self.keeps if counter and t == 0 else ():', 'for name in ():'),
    mutation('the chain forgets', 's2_sam.py', '        self._save(step, h or [])\n', '        _ = h\n'),
    mutation('the chain climbs along what the base left', 's2_sam.py', 'h = step.keep_gradients("gradient")', 'h = [p.grad for p in step.params]'),
    mutation('LookSAM climbs in the last of k steps', 'looksam.py', 'step.number % self.every == 0', 'step.number % self.every == self.every - 1'),
    mutation('LookSAM enlarges rounding', 'looksam.py', '        scale_(across, kept)\n', '        _ = kept\n'),
    mutation('the rest and the part weigh alike', 'fraction_sam.py', 'step.combine(1.0 - share, g, share)', 'step.combine(0.5, g, 0.5)'),
    mutation('a step that does not climb takes the part', 'fraction_sam.py', 'step.gradient(closures[1])', 'step.gradient(closures[0])', (LAWS + 'fraction_sam.py',)),
    mutation('the whole is mixed with its part', 'fraction_sam.py', '        if self.descend == "rest":\n            share', '        if g or step.keep_gradients("part"):\n            share', (LAWS + 'fraction_sam.py',)),
    mutation('anchored and chained exchanged', 'accumulating_sam.py', '                if self.anchored:\n', '                if not self.anchored:\n'),
    mutation('micro-batches summed up', 'accumulating_sam.py', 'MeanGradient(step.scratch("total"), len(closures))', 'MeanGradient(step.scratch("total"), 1)'),
    mutation('the last micro-batch is climbed from', 'accumulating_sam.py', '        step.restore()\n        step.descend()', '        self.ascent.ascend(step)\n        step.descend()', (LAWS + 'accumulating_sam.py',)),
    mutation("XSAM's arc in half precision", 'xsam.py', 'torch.finfo(cosine.dtype).eps', 'torch.finfo(step.params[0].dtype).eps', (LAWS + 'xsam.py',)),
    mutation("XSAM's arc where half-precision vectors cancel", 'xsam.py', '        plain |= (cosine < 0) & (sine < opposite)\n', '', (LAWS + 'xsam.py',)),
    mutation("XSAM's climb where the last gradient is missing", 'xsam.py', 'before or p.grad is not None', 'p.grad is not None', (LAWS + 'xsam.py',)),
    mutation("XSAM's search prefers the first of equal losses", 'xsam.py', '(sign * found[alpha], -abs(alpha - 1.0))', 'sign * found[alpha]', (LAWS + 'xsam.py',)),
    mutation("XSAM's arc where there is none", 'xsam.py', '.masked_fill(plain, 1.0)', ''),
    mutation("XSAM's climb in a maximised group", 'xsam.py', '                scale_(part, -1.0)\n', '                pass\n'),
    mutation("XSAM's search leaves its gradients", 'xsam.py', 'gradient.copy_(values)', 'p.grad'),
    mutation('the last of every n steps climbs', 'schedule.py', 't % self.n == 0 else 0.0', 't % self.n == self.n - 1 else 0.0'),
    mutation('a window with its end', 'schedule.py', '<= t < until else', '<= t <= until else'),
    mutation('a large gradient against the mean of before', 'schedule.py', 'float(square >= mean + self.c', "float(square >= self.c"),
    mutation('a radius proportional to the rate whatever rho_min', 'schedule.py', 'self.rho_min + (rho - self.rho_min) * (lr', 'rho * (lr'),
    mutation('the norm of scaled gradients decides', '_step.py', '        self._evaluator.ahead(closure)\n        self._evaluator.check()\n', '        self._evaluator.ahead(closure)\n'),
    mutation("one norm for each tensor", "perturbation.py", "return gradients, length", "return gradients, [norm([g]) for g in gradients]"),
    mutation("norm of half-precision gradients in their own precision", "_tensors.py", "found = list(torch._foreach_norm(tensors, 2, dtype=_dtype_of_squares(first)))", "found = list(torch._foreach_norm(tensors, 2))"),
    mutation("NaN for a zero gradient", "_tensors.py", "scale = 0.0 if number * torch.finfo(length.dtype).max < 1.0 else 1.0 / number", "scale = 1.0 / (number or float('nan'))"),
    mutation("NaN for a zero gradient on a device", "_tensors.py", "length.reciprocal().nan_to_num_(nan=float(\"nan\"), posinf=0.0)", "length.reciprocal()"),
    mutation("squares that have vanished count as zero", "_tensors.py", "(2.0**-450 if double else 2.0**-36)", "0.0"),
    mutation("squares that have overflowed", "_tensors.py", "        return 2.0**-600 if double else 1.0\n", "        return 0.0\n"),
    Mutation(
        "the next ascent after the base has had the gradient",
        (
            ("ascent.py", "            self.ascend(step)  # lines 6 and 7 of the next inner step: φ'ᵢ₊₁\n", "            pass\n"),
            ("lookbehind.py", "            fast = step.params if last else held\n", "            fast = step.params if last else held\n            if inner.gradient_climbs_too:\n                self.ascent.ascend(step)\n"),
        ),
    ),
    mutation("a gradient in another tensor that leaks into the next pass", "_evaluation.py", "        for p in self._renewed:\n            p.grad = None\n", ""),
    mutation("gradients in one memory are written twice", "_evaluation.py", "        self._lent += _give_each_its_own(held, gradients, self.places)\n", ""),
    mutation("a first gradient that comes late leaks into the next pass", "_evaluation.py", "        if self._untouched:  #", "        if first:  #", GRADIENTS),
    mutation("a gradient in the memory of its weight", "_evaluation.py", " and found.isdisjoint(places)", "", GRADIENTS),
    mutation("a layer is perturbed that was frozen with its last gradient", "ascent.py", "        if not step.evaluated:", "        if False:", GRADIENTS),
    mutation("half a step is saved", "_wrapper.py", '        self._require_no_step("state_dict was called")\n', "", ("tests/conformance/test_state.py",)),
    mutation("a bare state that the base loads resets the radii", "_wrapper.py", "loaded = not any(", "loaded = False and any(", ("tests/conformance/test_state.py",)),
    mutation("a step within a step", "_wrapper.py", "id(here.f_code) in STEPS and ", "here is None and "),
    mutation("slow weights of a Lookahead inside are left in the model", "_wrapper.py", "                inner._hide()\n", "                pass\n"),
    mutation("a frozen layer with a stale gradient follows", "lookahead.py", "        copy_([slow[j] for j in frozen], [step.params[j] for j in frozen])\n", ""),
    mutation("a shallow copy takes the base over", "_wrapper.py", 'self.base.__dict__.setdefault("_wrapped_by", self)', 'self.base.__dict__["_wrapped_by"] = self'),
    mutation("2k gradients instead of k + 1", "ascent.py", "needs_gradient=self.needs_gradient and (i == 1 or switching)", "needs_gradient=self.needs_gradient"),
    mutation("line 6 left out when minibatches switch", "ascent.py", "needs_gradient=self.needs_gradient and (i == 1 or switching)", "needs_gradient=self.needs_gradient and i == 1"),
    mutation("the first perturbation used for every ascent", "ascent.py", "        start = 0\n", "        direction = self.__dict__.setdefault('stale', [d.clone() for d in direction])\n        start = 0\n"),
    mutation("descent along the ascent's gradient", "ascent.py", "        step.gradient(inner.closure, sync=self.sync or (sync and not inner.gradient_climbs_too))", "        _ = sync"),
    mutation("rho taken from the first group for all", "ascent.py", "rho: float = group[self.rho_key]", "rho: float = step.groups[0][0][self.rho_key]"),
    mutation("the ascent of a maximised group goes up", "_step.py", "-p.grad if maximize and p.grad is not None else p.grad", "p.grad"),
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
    mutation("mean over k + 1 gradients", "multistep_sam.py", 'MeanGradient(step.scratch("total"), self.k)', 'MeanGradient(step.scratch("total"), self.k + 1)'),
    mutation("the mean's buffer left in .grad", "_mean.py", "                p.grad = total.clone()\n", "                p.grad = total\n"),
    mutation("loss of the last pass returned", "_evaluation.py", "            self.loss = _copied(loss)", "            pass\n        if True:\n            self.loss = _copied(loss)"),
    mutation("the closure's own loss returned", "_evaluation.py", "        return loss.clone()  # steps", "        return loss.detach()  # steps"),
    mutation("gradients of earlier passes added", "_evaluation.py", "            self._forget_gradients()\n", "            pass\n"),
    mutation("a closure's own gradients thrown away", "_evaluation.py", "if (gradient := p.grad) is not was():", "if (gradient := p.grad) is gradient:"),
    mutation("autocast's cache kept", "_modes.py", "    torch.clear_autocast_cache()\n", ""),
    mutation("cached parametrizations kept", "_modes.py", "        parametrize._cache.clear()\n", "        pass\n"),
    mutation("nothing restored when a step fails", "_wrapper.py", "            uninterrupted(rollback.restore)\n", "            pass\n"),
    mutation("a second Ctrl-C ends the restoring", "_wrapper.py", "            uninterrupted(rollback.restore)\n", "            rollback.restore()\n"),
    mutation("gradients left off after Ctrl-C", "_rollback.py", "            torch._C._set_grad_enabled(enabled)", "            torch.set_grad_enabled(enabled)"),
    mutation("base state kept when a step is skipped", "_wrapper.py", 'full = self.rollback == "full" or (self._skips(evaluator) and self._state_moves_first())', 'full = self.rollback == "full"'),
    mutation("a rule's state kept when a step is skipped", "ascent.py", "return super()._state_moves_first() or self.ascent.keeps_state", "return super()._state_moves_first()"),
    mutation("counters kept when a step fails", "_rollback.py", "            group.update(values)\n", "            pass\n"),
    mutation("state put back in another tensor", "_rollback.py", "        return lambda: value.copy_(kept)\n", "        return lambda: kept\n"),
    mutation("BatchNorm statistics of every pass", "_evaluation.py", "            kept = clones(self.statistics)\n", ""),
    mutation("base state left out of checkpoints", "_wrapper.py", "        state_dict = self.base.state_dict()\n        for post_hook", '        state_dict = {**self.base.state_dict(), "state": {}}\n        for post_hook'),
    mutation("groups parted from the base's when loading", "_wrapper.py", "        return self.base.param_groups\n", '        return self.__dict__.setdefault("groups", self.base.param_groups)\n'),
    mutation("deepcopy drops the base, as torch's own __getstate__", "_wrapper.py", 'dropped = ("step",', 'dropped = ("base", "step",'),
    mutation("slow weights left out of checkpoints", "lookahead.py", '        return self._buffers.saved("slow", params, torch.clone)', '        return self._buffers.scratch("slow", params)'),
    mutation("slow weights stay those of construction", "lookahead.py", "        if self.cycle_step == 0:\n            copy_(slow, step.start)", "        if False:\n            copy_(slow, step.start)"),
    mutation("slow weights do not see that weights are loaded", "lookahead.py", "        known = [p for p in params if p in self._last and self._last[p].shape == p.shape]\n", "        known: list[Tensor] = []\n"),
    mutation("slow weights of a frozen layer kept", "lookahead.py", '        self._buffers.drop("slow", [p for p in self._last if p not in mine])\n', ""),
    mutation("the inner view of slow weights ends the outer", "lookahead.py", "if self.outermost and self.depth == 0:", "if True:"),
    mutation("the base sees the saved buffers", "_wrapper.py", "            self._buffers.take(self._taken)\n", ""),
    mutation("host waits for the norm", "_tensors.py", "    if is_compiling() or not on_host(length):\n        return 0.0\n    number", "    number"),
    mutation("a copy made anew at each step", "_buffers.py", "        if not (len(known) == len(params)", "        self.__dict__.setdefault('all', []).append(tensors)\n        if True or not (len(known) == len(params)"),
    mutation("a second wrapper keeps the first one's numbers", "_wrapper.py", "        unwrap(self.base)\n", ""),
    mutation("numbers in groups unchecked", "_wrapper.py", "        self._require_entries()\n", ""),
    mutation("numbers in groups checked once", "_wrapper.py", "if len(now) == len(self._passed) and all(map(is_, now, self._passed)):", "if self._passed:"),
    mutation("entries of a new group unchecked", "_wrapper.py", "if len(now) == len(self._passed) and all(", "if self._passed and all("),
    mutation("a lazy layer beside frozen ones", "_wrapper.py", "            if len(params) < len(group[\"params\"]):\n", "            if False:\n"),
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
    mutation("the norm of a shard taken for the whole", "_tensors.py", "    if sharded:\n", "    if False:\n", REAL),
    mutation("hooks of all optimizers passed over", "_wrapper.py", "watched = own or of_all or", "watched = own or"),
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
    mutation("a study's digest leaves out what a method names", "lab/declared.py", "            todo += sorted(_names(defined[one]) & defined.keys())\n", "", ("tests/lab/test_study.py",)),
    mutation("a budget that does not know what a step costs", "lab/grids.py", "round(trained.epochs * budget / method.gradients)", "round(trained.epochs * budget)", ("tests/lab/test_study.py",)),
    mutation("the league reports the seeds that chose", "league/items.py", 'update={"seed": seed}) for seed in self.seeds))', 'update={"seed": seed}) for seed in [r.seed for r in winner.runs]))', ("tests/league/test_items.py",)),
    mutation("an average that counts its start twice", "league/rivals.py", "lambda t: 1.0 / (t + 1), first", "lambda t: 1.0 / (t + 2), first", ("tests/league/test_rivals.py",)),
    mutation("statistics of one seed", "lab/statistics.py", "FEWEST = 3 ", "FEWEST = 1 ", ("tests/lab/test_report.py",)),
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
