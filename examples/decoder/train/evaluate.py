#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bits per byte of an exported model on the held-out chapters, by position in the context, and samples of its text."""

import argparse
import math
import json
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from llama import Llama, Shape

BOS = 0


def load(folder):
    config = json.loads((folder / "config.json").read_text())
    model = Llama(Shape(**{name: config[name] for name in Shape.__dataclass_fields__}))
    model.load_state_dict({name: value.float() for name, value in load_file(folder / "model.safetensors").items()})
    return model.eval()


def bits_by_position(model, data, context):
    """-> float32 [context]: mean bits of the byte at each place of adjoining windows, float32 throughout."""
    rows = data[: len(data) // context * context].view(-1, context).long()
    rows = torch.cat((torch.full((len(rows), 1), BOS), rows), dim=1)
    total = torch.zeros(context, dtype=torch.float64)
    for part in rows.split(4):
        logits = model(part[:, :-1])
        nats = F.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="none")
        total += nats.view(len(part), context).double().sum(0)
    return total / len(rows) / math.log(2)


def sample(model, prompt, length, temperature, top_p, seed):
    generator = torch.Generator().manual_seed(seed)
    tokens = [BOS, *prompt.encode()]
    for _ in range(length):
        probabilities = (model(torch.tensor([tokens]))[0, -1].double() / temperature).softmax(-1)
        ordered, index = probabilities.sort(descending=True)
        ordered[ordered.cumsum(0) - ordered >= top_p] = 0
        tokens.append(int(index[torch.multinomial(ordered, 1, generator=generator)]))
        if tokens[-1] == BOS:
            break
    return bytes(tokens[1:]).decode(errors="replace")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("model", type=pathlib.Path)
    arguments.add_argument("--held-out", type=pathlib.Path, help="heldout.bin of prepare_text.py")
    arguments.add_argument("--context", type=int, default=1024)
    arguments.add_argument("--prompt", help="write a sample that goes on from this")
    arguments.add_argument("--length", type=int, default=600)
    arguments.add_argument("--temperature", type=float, default=0.7)
    arguments.add_argument("--top-p", type=float, default=0.95)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()

    model = load(options.model)
    with torch.no_grad():
        if options.held_out:
            data = torch.frombuffer(bytearray(options.held_out.read_bytes()), dtype=torch.uint8)
            bits = bits_by_position(model, data, options.context)
            print(f"held out, {len(data) // options.context} windows of {options.context} bytes: {bits.mean():.4f} bits/byte")
            edges = [0] + [2**n for n in range(6, 13) if 2**n <= options.context]
            for low, high in zip(edges, edges[1:]):
                print(f"  bytes {low} to {high - 1}: {bits[low:high].mean():.4f}")
        if options.prompt:
            print(sample(model, options.prompt, options.length, options.temperature, options.top_p, options.seed))


if __name__ == "__main__":
    main()
