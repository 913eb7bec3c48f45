#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Train one recall model: a small Llama that answers questions about a long body of filler.

The body hides (key, value) pairs and markers of four classes in filler. A key asked later must give its value: a one-shot spike of attention.
AGG must give the class that most markers have: steady attention. Writes config.json and model.safetensors (float16) in the layout of
Hugging Face checkpoints, and training.json with the shares of right answers on fresh sequences.
"""

import argparse
import json
import pathlib
import sys
import time

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "examples" / "decoder" / "train"))
from llama import Llama, Shape  # noqa: E402

# The vocabulary; bench/support/recall_task.hpp has the same numbers.
FILLER, KEYS, VALUES, MARKERS, AGG, VOCABULARY = 0, 1, 49, 97, 101, 102
NAMES, CLASSES = 48, 4

# The curriculum: body, pairs, markers, questions. Bare pairs come first, 2 to 6 of them; the last is the task itself.
STAGES = ((12, 6, 0, 8), (40, 8, 8, 32), (96, 12, 16, 32), (192, 16, 24, 48))
GOOD_KEY, GOOD_AGG = 0.9, 0.85


def shape(kv_heads):
    return Shape(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=kv_heads,
                 head_dim=32, max_position_embeddings=1024, vocab_size=VOCABULARY, rope_theta=1000.0)


def place(length, pairs, markers):
    """The body as a list: 'p' opens a pair and takes two tokens, 'm' is a marker, 'f' filler."""
    units = ["p"] * pairs + ["m"] * markers + ["f"] * (length - 2 * pairs - markers)
    return [units[i] for i in torch.randperm(len(units)).tolist()]


def markers_of(count):
    """Classes of `count` markers, one of which has more than any other, and that class."""
    while True:
        main = torch.randint(CLASSES, ()).item()
        classes = torch.where(torch.rand(count) < 0.4, main, torch.randint(CLASSES, (count,)))
        counts = torch.bincount(classes, minlength=CLASSES)
        ordered = counts.sort(descending=True).values
        if ordered[0] > ordered[1]:
            return classes.tolist(), counts.argmax().item()


def sequence(length, pairs, markers, questions):
    """-> tokens, answers; the answer is -100 where nothing is asked."""
    keys = (torch.randperm(NAMES)[:pairs] + KEYS).tolist()
    values = (torch.randint(NAMES, (pairs,)) + VALUES).tolist()
    classes, majority = markers_of(markers) if markers else ([], 0)
    tokens, pair, marker = [], 0, 0
    for unit in place(length, pairs, markers):
        if unit == "p":
            tokens += [keys[pair], values[pair]]
            pair += 1
        elif unit == "m":
            tokens.append(MARKERS + classes[marker])
            marker += 1
        else:
            tokens.append(FILLER)
    answers = [-100] * len(tokens)
    kinds, asked = torch.rand(questions).tolist(), torch.randint(pairs, (questions,)).tolist()
    for kind, which in zip(kinds, asked):
        if kind < 0.15:
            tokens.append(FILLER)
            answers.append(-100)
        elif kind < 0.4 and markers:
            tokens.append(AGG)
            answers.append(MARKERS + majority)
        else:
            tokens.append(keys[which])
            answers.append(values[which])
    return tokens, answers


def batch(stage, size):
    if not stage[2]:
        pairs = torch.randint(2, stage[1] + 1, ()).item()
        stage = (2 * pairs, pairs, 0, stage[3])
    rows = [sequence(*stage) for _ in range(size)]
    return torch.tensor([r[0] for r in rows]), torch.tensor([r[1] for r in rows])


def shares(logits, tokens, answers):
    """The share of right answers to keys, and to AGG (1 where none was asked)."""
    right = logits.argmax(-1) == answers
    agg = tokens == AGG
    key = (answers >= 0) & ~agg
    return right[key].float().mean().item(), right[agg].float().mean().item() if agg.any() else 1.0


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("out", type=pathlib.Path, help="the folder of the model")
    arguments.add_argument("--seed", type=int, required=True)
    arguments.add_argument("--kv-heads", type=int, default=2, choices=(1, 2))
    arguments.add_argument("--steps", type=int, default=12000, help="give up after so many")
    arguments.add_argument("--last-steps", type=int, default=600, help="of the whole task, once it is reached; the rate falls to zero")
    arguments.add_argument("--rate", type=float, default=2e-3)
    arguments.add_argument("--batch", type=int, default=32)
    arguments.add_argument("--threads", type=int, default=1)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)

    model = Llama(shape(options.kv_heads))
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            deep = name.endswith(("o_proj.weight", "down_proj.weight"))
            # Embeddings of 1: the same table gives the logits, and small ones could not be sure of anything for long.
            nn.init.normal_(parameter, std=1 if "embed" in name else (0.2 if deep else 1) * parameter.shape[1] ** -0.5)
    optimizer = torch.optim.Adam(model.parameters(), lr=options.rate, betas=(0.9, 0.98))
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)

    stage, key, agg, last, started, step = 0, 0.0, 0.0, None, time.monotonic(), 0
    while last is None or step < last:
        if step == options.steps:
            raise SystemExit("the model did not learn the task; try another seed")
        tokens, answers = batch(STAGES[stage], options.batch)
        logits = model(tokens)
        loss = F.cross_entropy(logits.flatten(0, 1), answers.flatten(), ignore_index=-100)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        warm = min(1.0, (step + 1) / 100)
        optimizer.param_groups[0]["lr"] = options.rate * (warm if last is None else (last - step) / options.last_steps)
        optimizer.step()
        step += 1
        now = shares(logits.detach(), tokens, answers)
        key, agg = key + 0.05 * (now[0] - key), agg + 0.05 * (now[1] - agg)
        if step % 100 == 0:
            print(f"step {step}  body {STAGES[stage][0]}  loss {loss.item():.3f}  key {key:.3f}  agg {agg:.3f}  "
                  f"{time.monotonic() - started:.0f} s", flush=True)
        if key > GOOD_KEY and agg > GOOD_AGG and last is None:
            if stage + 1 < len(STAGES):
                stage, key, agg = stage + 1, 0.0, 0.0
            else:
                last = step + options.last_steps

    with torch.no_grad():
        model.eval()
        tested = [shares(model(t), t, a) for t, a in (batch(STAGES[-1], 64) for _ in range(8))]
    result = {"seed": options.seed, "steps": step, "seconds": round(time.monotonic() - started),
              "key": sum(t[0] for t in tested) / 8, "agg": sum(t[1] for t in tested) / 8}
    options.out.mkdir(parents=True, exist_ok=True)
    save_file({n: p.detach().to(torch.float16).contiguous() for n, p in model.named_parameters()},
              options.out / "model.safetensors", metadata={"format": "pt"})
    config = model.shape.config() | {"torch_dtype": "float16"}
    (options.out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (options.out / "training.json").write_text(json.dumps(result, indent=2) + "\n")
    print(result, flush=True)


if __name__ == "__main__":
    main()
