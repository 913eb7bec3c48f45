#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write the reference vectors of the decoder's tests: small random Llama models with what Hugging Face transformers computes for them.

    pip install torch transformers safetensors        # written with transformers 5.23.0, torch 2.15.0
    python3 make_vectors.py vectors

Each folder holds a checkpoint as Hugging Face lays it out, and expected.safetensors:

    prompt_tokens  I32 [n]           prompt_logits  F32 [n, vocab]    after each token of the prompt
    greedy_tokens  I32 [32]          greedy_logits  F32 [32, vocab]   what greedy_tokens[i] was chosen from

so greedy_logits[0] is prompt_logits[n - 1]. Computed in float32 on the weights as stored (a bfloat16 or float16 file is widened first).
A seed is taken only if the best logit leads the second by more than MARGIN at every step, any WINDOW tokens in a row hold
DIFFERENT_TOKENS different ones, and the same model in float64 agrees within 1.5e-5: then a decoder within 1e-4 must choose
the same tokens.
"""

import argparse
import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

STEPS = 32
MARGIN = 0.01
WINDOW, DIFFERENT_TOKENS = 8, 4

TIED = dict(
    vocab_size=97, hidden_size=64, intermediate_size=152, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=256, rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
    rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
)
# Wavelengths of the rotation: some shorter than 64/4 (kept), one between 64/4 and 64/1 (blended), the others longer (divided by 8).
UNTIED_LLAMA3 = dict(
    vocab_size=256, hidden_size=48, intermediate_size=104, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2, head_dim=24,
    max_position_embeddings=512, rms_norm_eps=1e-6, tie_word_embeddings=False, bos_token_id=250, eos_token_id=[251, 252],
    rope_parameters={
        "rope_type": "llama3", "rope_theta": 50000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
)


def random_model(shape, seed, dtype):
    """Weights large enough that attention and logits are far from uniform, rounded to the dtype of the file."""
    model = LlamaForCausalLM._from_config(LlamaConfig(**shape), attn_implementation="eager").float().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5, generator=generator)
            elif "embed_tokens" in name or "lm_head" in name:
                parameter.normal_(0, 0.35, generator=generator)
            else:
                parameter.normal_(0, 0.17, generator=generator)
            parameter.copy_(parameter.to(dtype).float())
    return model


def compute(model, prompt):
    """-> prompt logits, greedy tokens, greedy logits; one token at a time with transformers' own cache."""
    with torch.no_grad():
        out = model(prompt[None], use_cache=True)
        prompt_logits = out.logits[0]
        tokens, logits = [], [prompt_logits[-1]]
        while True:
            tokens.append(int(logits[-1].argmax()))
            if len(tokens) == STEPS:
                return prompt_logits, torch.tensor(tokens), torch.stack(logits)
            out = model(torch.tensor([tokens[-1:]]), past_key_values=out.past_key_values, use_cache=True)
            logits.append(out.logits[0, -1])


def repeats(tokens):
    return any(len(window.unique()) < DIFFERENT_TOKENS for window in tokens.unfold(0, WINDOW, 1))


def chosen(shape, prompt_length, dtype):
    """The first seed whose greedy text no rounding can change, and that is worth reading."""
    ends = torch.tensor(shape["eos_token_id"]).flatten()
    for seed in range(2000):
        model = random_model(shape, seed, dtype)
        generator = torch.Generator().manual_seed(seed)
        prompt = torch.randint(3, shape["vocab_size"] - 8, (prompt_length,), generator=generator)
        prompt[0] = shape["bos_token_id"]
        prompt_logits, tokens, logits = compute(model, prompt)
        best = logits.topk(2).values
        if (best[:, 0] - best[:, 1]).min() < MARGIN or repeats(tokens) or torch.isin(tokens, ends).any():
            continue
        exact = compute(model.double(), prompt)
        error = max((prompt_logits - exact[0]).abs().max(), (logits - exact[2]).abs().max()).item()
        if error < 1.5e-5 and torch.equal(tokens, exact[1]):
            return model.float(), prompt, prompt_logits, tokens, logits, seed, error
    raise SystemExit("no seed fits")


def older_config(path):
    """Rewrite config.json as versions of transformers before 5 did: what most published checkpoints have."""
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def write(folder, shape, prompt_length, dtype=torch.float32, shard="1GB", older=False):
    model, prompt, prompt_logits, tokens, logits, seed, error = chosen(shape, prompt_length, dtype)
    shutil.rmtree(folder, ignore_errors=True)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if older:
        older_config(folder / "config.json")
    expected = {"prompt_logits": prompt_logits, "greedy_logits": logits, "prompt_tokens": prompt.int(), "greedy_tokens": tokens.int()}
    save_file({name: value.contiguous() for name, value in expected.items()}, folder / "expected.safetensors")

    again = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    reread = compute(again, prompt)
    if not torch.equal(reread[1], tokens) or not torch.allclose(reread[0], prompt_logits, rtol=0, atol=1e-6):
        raise SystemExit(f"{folder}: the files do not give the model back")
    best = logits.topk(2).values
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{folder.name}: seed {seed}, {size} bytes, {len(tokens.unique())} different greedy tokens, least lead "
          f"{(best[:, 0] - best[:, 1]).min():.3f}, largest logit {logits.abs().max():.1f}, float32 against float64 {error:.1e}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("out", type=pathlib.Path)
    out = arguments.parse_args().out
    torch.set_num_threads(1)
    write(out / "tied", TIED, 48)
    write(out / "tied_bf16", TIED, 48, dtype=torch.bfloat16, older=True)
    write(out / "tied_f16", TIED, 48, dtype=torch.float16)
    write(out / "untied_llama3", UNTIED_LLAMA3, 72, older=True)
    write(out / "untied_llama3_sharded", UNTIED_LLAMA3, 72, shard="100KB")


if __name__ == "__main__":
    main()
