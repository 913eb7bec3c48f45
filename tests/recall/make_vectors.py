#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write expected.safetensors for the test of the benches' model over ragged caches, computed by PyTorch in float64.

    python3 make_vectors.py ../../bench/recall/models/seed-1 expected.safetensors

A prompt of 224 tokens is read whole; then every KV head of every layer keeps rows of its own, and 17 more tokens at positions 224 to 240
attend to those and to one another, causally.

    tokens I32 [241]   kept U8 [layers, KV heads, 224]   whole F32 [17, vocabulary]   evicted F32 [17, vocabulary]
    window F32 [layers, query heads, 4, 224]  probabilities of the prompt's last 4 queries
"""

import argparse
import json
import pathlib

import torch
from safetensors.torch import load_file, save_file

PROMPT, MORE, WINDOW = 224, 17, 4


def norm(x, weight, eps):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def rotate(x, theta):
    """x [heads, length, width], element i turning with element i + width / 2."""
    half = x.shape[-1] // 2
    # The angles are rounded to float32, as models are trained with them.
    frequency = (theta ** (-torch.arange(half, dtype=torch.float64) / half)).float()
    angle = (torch.arange(x.shape[1]).float()[:, None] * frequency).double()
    low, high = x[..., :half], x[..., half:]
    return torch.cat((low * angle.cos() - high * angle.sin(), high * angle.cos() + low * angle.sin()), -1)


def forward(weights, config, tokens, visible):
    """visible: bool [layers, KV heads, length, length] -> logits, probabilities [layers, query heads, length, length]"""
    width, group, eps = config["head_dim"], config["num_attention_heads"] // config["num_key_value_heads"], config["rms_norm_eps"]
    x, shown = weights["model.embed_tokens.weight"][tokens], []
    for index in range(config["num_hidden_layers"]):
        layer = {name.removeprefix(f"model.layers.{index}."): w for name, w in weights.items() if name.startswith(f"model.layers.{index}.")}
        y = norm(x, layer["input_layernorm.weight"], eps)
        q, k, v = ((y @ layer[f"self_attn.{n}_proj.weight"].T).view(len(tokens), -1, width).transpose(0, 1) for n in "qkv")
        q, k = rotate(q, config["rope_theta"]), rotate(k, config["rope_theta"])
        k, v, seen = (t.repeat_interleave(group, 0) for t in (k, v, visible[index]))
        p = (q @ k.transpose(1, 2) / width**0.5).masked_fill(~seen, float("-inf")).softmax(-1)
        shown.append(p)
        x = x + (p @ v).transpose(0, 1).reshape(len(tokens), -1) @ layer["self_attn.o_proj.weight"].T
        y = norm(x, layer["post_attention_layernorm.weight"], eps)
        gate = y @ layer["mlp.gate_proj.weight"].T
        x = x + (gate * gate.sigmoid() * (y @ layer["mlp.up_proj.weight"].T)) @ layer["mlp.down_proj.weight"].T
    return norm(x, weights["model.norm.weight"], eps) @ weights["model.embed_tokens.weight"].T, torch.stack(shown)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", type=pathlib.Path)
    arguments.add_argument("out", type=pathlib.Path)
    options = arguments.parse_args()
    config = json.loads((options.model / "config.json").read_text())
    weights = {name: w.double() for name, w in load_file(options.model / "model.safetensors").items()}
    generator = torch.Generator().manual_seed(1)
    length, layers, heads = PROMPT + MORE, config["num_hidden_layers"], config["num_key_value_heads"]
    tokens = torch.randint(config["vocab_size"], (length,), generator=generator)
    kept = torch.rand(layers, heads, PROMPT, generator=generator) < torch.tensor([0.1, 0.4]).repeat(layers, heads // 2)[..., None]
    causal = torch.ones(length, length, dtype=torch.bool).tril().expand(layers, heads, length, length)
    whole, shown = forward(weights, config, tokens, causal)
    ragged = causal.clone()
    ragged[:, :, PROMPT:, :PROMPT] = kept[:, :, None, :]
    evicted, _ = forward(weights, config, tokens, ragged)
    save_file({
        "tokens": tokens.int(), "kept": kept.to(torch.uint8).contiguous(), "whole": whole[PROMPT:].float().contiguous(),
        "evicted": evicted[PROMPT:].float().contiguous(),
        "window": shown[:, :, PROMPT - WINDOW : PROMPT, :PROMPT].float().contiguous(),
    }, options.out)
    print(f"kept rows {kept.sum(-1).tolist()}, largest difference of logits {(whole - evicted)[PROMPT:].abs().max():.3f}")


if __name__ == "__main__":
    main()
