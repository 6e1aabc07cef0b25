"""A script in the style of timm: autocast, EMA, label smoothing, warmup and cosine, clipping. About 10 seconds.

pip install ".[lab]" && python examples/timm_style.py                # float16 on a CPU takes five times as long

What must change in a script made from timm's ``train.py``: its ``NativeScaler`` runs backward, clips, and calls
``optimizer.step`` without a closure, which is refused. Backward and clipping belong into the closure, where gradients
are scaled, and so the bound; all micro-batches of ``grad_accum_steps`` too, each loss divided by their number. Then
come ``step`` with the scaler, and ``update``. ``ModelEmaV3`` and timm's schedulers work as they are.
"""

import argparse
import math
from contextlib import nullcontext

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lookbehind import Lookbehind
from lookbehind.data import load_digits
from lookbehind.models import ConvNet

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--amp", choices=["none", "bfloat16", "float16"], default="none")
    parser.add_argument("--clip", type=float, default=2.0, help="bound of the gradient's norm in each pass")
    args = parser.parse_args()
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    digits, model = load_digits().to(device), ConvNet().to(device)
    base = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.02)
    optimizer = Lookbehind(base, rho=0.1, k=2, alpha=0.8, model=model)  # BatchNorm follows the unperturbed weights
    steps, warmup = args.epochs * math.ceil(len(digits.train_images) / 64), 20
    factors = [min(1, (t + 1) / warmup) * (1 + math.cos(math.pi * t / steps)) / 2 for t in range(steps + 1)]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factors.__getitem__)
    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.98), use_buffers=True)
    scaler = torch.amp.GradScaler(device, enabled=args.amp == "float16")
    cast = nullcontext() if args.amp == "none" else torch.autocast(device, getattr(torch, args.amp))
    for epoch in range(args.epochs):
        for index in torch.randperm(len(digits.train_images)).split(64):
            images, labels = digits.train_images[index], digits.train_labels[index]

            def closure():
                optimizer.zero_grad()
                with cast:
                    outputs = model(images)
                loss = torch.nn.functional.cross_entropy(outputs.float(), labels, label_smoothing=0.1)
                scaler.scale(loss).backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip * scaler.get_scale())
                return loss

            loss = optimizer.step(closure, grad_scaler=scaler)
            scaler.update()
            scheduler.step()
            ema.update_parameters(model)
        print(f"epoch {epoch + 1}: loss {loss:.3f}, learning rate {scheduler.get_last_lr()[0]:.5f}")
    for name, net in {"model": model, "average": ema}.items():
        right = net.eval()(digits.test_images).argmax(1) == digits.test_labels
        print(f"{name}: test accuracy {100 * right.float().mean():.1f} %")
