#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Train the example model on the bytes that prepare_text.py wrote.

Stops after `--steps`; resumes from RUN/checkpoint.pt by itself. The learning rate rises, stays, and falls linearly to zero over the last
part of the steps. A number written to RUN/total_steps while it runs replaces `--steps`, so that the fall can be asked for at any time:
until the fall begins, nothing depends on the total. Each batch is drawn from (seed, step) alone, so a resumed run sees the same text.
"""

import argparse
import copy
import math
import os
import pathlib
import time

import numpy as np
import torch

from llama import Llama, Shape

STEADY_CONTEXTS = (256, 256, 256, 1024)
FALLING_CONTEXTS = (256, 1024, 256, 2048)
BOS = 0


class Text:
    """Windows of training bytes, each opened by BOS: most start at a verse, the others at any word."""

    def __init__(self, path):
        data = path.read_bytes()
        self.data = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        raw = np.frombuffer(data, dtype=np.uint8)
        self.verse_starts = torch.from_numpy(np.flatnonzero(raw[:-1] == ord("\n")) + 1)
        self.word_starts = torch.from_numpy(np.flatnonzero(raw[:-1] == ord(" ")) + 1)

    def batch(self, seed, step, windows, context):
        """-> int64 [windows, context + 1]"""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        rows = []
        for _ in range(windows):
            at_verse = torch.rand((), generator=generator) < 0.7
            starts = self.verse_starts if at_verse else self.word_starts
            starts = starts[: torch.searchsorted(starts, len(self.data) - context)]
            start = starts[torch.randint(len(starts), (), generator=generator)]
            rows.append(torch.cat((torch.tensor([BOS], dtype=torch.uint8), self.data[start : start + context])))
        return torch.stack(rows).long()


def held_out_bits(model, data, context, windows):
    """Bits per byte over the first `windows` adjoining windows of `context` bytes; a byte late in a window sees all before it."""
    count = min(windows, len(data) // context)
    rows = data[: count * context].view(count, context).long()
    rows = torch.cat((torch.full((count, 1), BOS, device=rows.device), rows), dim=1)
    model.eval()
    with torch.no_grad(), torch.autocast(rows.device.type, dtype=torch.bfloat16):
        nats = sum(model.loss(part, reduction="sum").item() for part in rows.split(8))
    model.train()
    return nats / (count * context) / math.log(2)


def rate(step, total, options):
    """The factor on the learning rate at a step."""
    falling = max(1, round(total * options.falling_part))
    return max(0.0, min(1.0, (step + 1) / options.warmup, (total - step) / falling))


def optimizers(model, options):
    """Muon for the matrices of the layers, AdamW for the embedding and the norms."""
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=options.rate, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=options.rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def save(path, state):
    """Replace the checkpoint in one step: a run killed while it writes leaves the one before."""
    torch.save(state, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


def parse():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("data", type=pathlib.Path, help="the folder prepare_text.py wrote")
    arguments.add_argument("run", type=pathlib.Path, help="the folder of the checkpoint")
    arguments.add_argument("--steps", type=int, required=True)
    arguments.add_argument("--batch-bytes", type=int, default=4096)
    arguments.add_argument("--rate", type=float, default=3e-3)
    arguments.add_argument("--warmup", type=int, default=100)
    arguments.add_argument("--falling-part", type=float, default=0.25)
    arguments.add_argument("--average", type=float, default=0.995, help="of the weights: the part kept at each step")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--save-seconds", type=float, default=120)
    arguments.add_argument("--compile", action="store_true", help="torch.compile: needs a C++ compiler; about 1.2 x faster on a CPU")
    return arguments.parse_args()


def main():
    options = parse()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    text = Text(options.data / "train.bin")
    held_out = torch.frombuffer(bytearray((options.data / "heldout.bin").read_bytes()), dtype=torch.uint8).to(device)
    model = Llama(Shape()).to(device)
    average = copy.deepcopy(model)
    steppers = optimizers(model, options)
    loss_of = torch.compile(model.loss, dynamic=False) if options.compile else model.loss

    options.run.mkdir(parents=True, exist_ok=True)
    checkpoint = options.run / "checkpoint.pt"
    step, seconds = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        for stepper, saved in zip(steppers, state["steppers"]):
            stepper.load_state_dict(saved)
        step, seconds = state["step"], state["seconds"]
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters} parameters, {len(text.data)} training bytes, from step {step}, on {device}", flush=True)

    def keep():
        save(checkpoint, {
            "model": model.state_dict(), "average": average.state_dict(), "step": step, "seconds": seconds,
            "steppers": [s.state_dict() for s in steppers], "batch_bytes": options.batch_bytes,
        })

    base, started, saved_at = seconds, time.monotonic(), time.monotonic()
    shown_at, shown_step, losses = started, step, []
    total_file = options.run / "total_steps"
    total = options.steps
    while step < total:
        if step % 50 == 0 and total_file.exists():
            total = int(total_file.read_text())
        factor = rate(step, total, options)
        falling = total - step < round(total * options.falling_part)
        context = (FALLING_CONTEXTS if falling else STEADY_CONTEXTS)[step % 4]
        batch = text.batch(options.seed, step, options.batch_bytes // context, context).to(device)
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = loss_of(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepper in steppers:
            for group in stepper.param_groups:
                group["lr"] = options.rate * factor
            stepper.step()
            stepper.zero_grad(set_to_none=True)
        keep_part = min(options.average, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - keep_part)
        losses.append(loss.item() / math.log(2))
        step += 1

        now = time.monotonic()
        seconds = base + now - started
        if step % 50 == 0 or step == total:
            speed = (step - shown_step) * options.batch_bytes / (now - shown_at)
            left = (total - step) * options.batch_bytes / speed / 60
            print(f"step {step}/{total}  train {np.mean(losses):.4f} bits/byte  rate {options.rate * factor:.2e}  "
                  f"{speed:.0f} bytes/s  {seconds / 60:.1f} min  {left:.1f} min left", flush=True)
            shown_at, shown_step, losses = now, step, []
        if step % 500 == 0 or step == total:
            bits = [held_out_bits(m, held_out, 1024, 32) for m in (model, average)]
            print(f"step {step}  held out at 1024: {bits[0]:.4f} bits/byte, averaged weights {bits[1]:.4f}", flush=True)
        if now - saved_at > options.save_seconds:
            keep()
            saved_at = now
    keep()


if __name__ == "__main__":
    main()
