#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write a checkpoint of train.py as a Hugging Face folder: config.json, model.safetensors (bfloat16), tokenizer_config.json."""

import argparse
import json
import pathlib

import torch
from safetensors.torch import save_file

from llama import Shape

TOKENIZER = {
    "tokenizer_type": "raw_bytes",
    "description": "A token is a byte of the text. Byte 0 is put before the prompt; the model writes it where a book ends.",
    "add_bos_token": True,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "vocab_size": 256,
}


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("run", type=pathlib.Path)
    arguments.add_argument("out", type=pathlib.Path)
    arguments.add_argument("--averaged", action="store_true", help="the running average of the weights, a little better, much better in a run stopped early")
    options = arguments.parse_args()

    state = torch.load(options.run / "checkpoint.pt", map_location="cpu")
    weights = state["average" if options.averaged else "model"]
    options.out.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: value.to(torch.bfloat16).contiguous() for name, value in weights.items()},
        options.out / "model.safetensors",
        metadata={"format": "pt"},
    )
    for name, content in (("config.json", Shape().config()), ("tokenizer_config.json", TOKENIZER)):
        (options.out / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    print(f"step {state['step']}, {state['step'] * state['batch_bytes']} bytes seen, {state['seconds'] / 60:.1f} minutes")


if __name__ == "__main__":
    main()
