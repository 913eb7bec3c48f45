#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write the tokenizer vectors of the decoder's tests: two small byte-level BPE files and what the `tokenizers` package makes of some text.

    apt-get install bible-kjv; pip install tokenizers        # written with tokenizers 0.23.3
    python3 make_tokenizers.py vectors

tokenizer_gpt2 splits by the ByteLevel pattern and lists its merges as "a b" (the older form). tokenizer_llama3 splits by
Llama 3's pattern, lists them as ["a", "b"], sets ignore_merges and puts <|begin_of_text|> before a text. cases.json holds,
for each text, its token ids without and with what the post-processor adds, and the text that the plain ids decode to.
"""

import argparse
import json
import pathlib
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "examples/decoder/train"))
from prepare_text import read_chapters, render  # noqa: E402

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

TEXTS = [
    "",
    " ",
    "a",
    "In the beginning God created the heaven and the earth.",
    "  Two  spaces,   three    four ",
    "trailing space ",
    "trailing spaces   ",
    "   leading",
    "tabs\tand\t\ttwo",
    "line\nbreak",
    "two\n\nbreaks\n\n\n",
    " \n \n  x",
    "windows\r\nline\r\n\r\nend",
    "\n",
    "\n\n  indented\n    more",
    "end of line   \nnext",
    "1 12 123 1234 12345 1234567 3.14159 1,000,000",
    "x1y22z333w4444",
    "I'm you're he's we'll they've I'd don't",
    "I'M YOU'RE HE'S WE'LL THEY'VE I'D DON'T",
    "'tis 'twas o'clock rock'n'roll ''quoted''",
    "'s 's's 'll'll x'sy",
    "hello, world! (what?) [yes] {no} <maybe> #tag @name $5 50% a&b a*b a+b=c",
    "ellipsis... dashes -- --- end!!!\n???\n\n",
    "snake_case camelCase __dunder__ a.b.c https://example.org/a?b=c&d=e#f",
    "caf\u00e9 na\u00efve \u00fcber \u00c5ngstr\u00f6m \u00d1and\u00fa \u00e6on \u00df",
    "cafe\u0301 with a combining mark",
    "\u0391\u03b2\u03b3\u03b4 \u0434\u043e\u0431\u0440\u043e\u0435 \u0443\u0442\u0440\u043e",
    "\u05d1\u05b0\u05bc\u05e8\u05b5\u05d0\u05e9\u05b4\u05c1\u05d9\u05ea \u05d1\u05b8\u05bc\u05e8\u05b8\u05d0",
    "\u0627\u0644\u0633\u0644\u0627\u0645 \u0661\u0662\u0663\u0664 \u0665",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0967\u0968\u0969\u096a",
    "\u8d77\u521d\uff0c\u795e\u521b\u9020\u5929\u5730\u3002",
    "\u306f\u3058\u3081\u306b\u795e\u306f\u5929\u3068\u5730\u3068\u3092\u5275\u9020\u3055\u308c\u305f\u3002",
    "\ud0dc\ucd08\uc5d0 \ud558\ub098\ub2d8\uc774",
    "mixed\u4e2d\u6587and English123\u6570\u5b57",
    "\U0001f600 \U0001f44d\U0001f3fd \U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f done",
    "\u00a0no-break\u00a0space\u3000wide\u2003em",
    "\u00bd \u00b2 \u2163 \u2460 \u0bf0",
    "\u201ccurly\u201d \u2018quotes\u2019 \u2014 don\u2019t \u2026",
    "a\u0000b\u0001c\u007fd",
    "\U0001d400\U0001d401 \U00010348",
    "SPECIALat the start",
    "in theSPECIALmiddle",
    "in the SPECIAL middle",
    "at the endSPECIAL",
    "twiceSPECIALSPECIAL",
    "SPECIAL",
    "not quite <|begin_of_text <|endoftext|",
]


def trained(text, pre_tokenizer, specials, ignore_merges):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=560, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(text, trainer)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in specials])
    return tokenizer


def write(folder, tokenizer, special, merges_as_strings):
    folder.mkdir(parents=True, exist_ok=True)
    content = json.loads(tokenizer.to_str())
    if merges_as_strings:
        content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")

    read = Tokenizer.from_str(text)
    cases = []
    for case in (t.replace("SPECIAL", special) for t in TEXTS):
        plain = read.encode(case, add_special_tokens=False).ids
        whole = read.encode(case, add_special_tokens=True).ids
        decoded = read.decode(plain, skip_special_tokens=False)
        assert decoded == case, (case, decoded)
        cases.append(json.dumps({"text": case, "ids": plain, "ids_with_special": whole, "decoded": decoded}))
    (folder / "cases.json").write_text("[\n" + ",\n".join(cases) + "\n]\n")
    sizes = ", ".join(f"{f.name} {f.stat().st_size} bytes" for f in sorted(folder.iterdir()))
    print(f"{folder.name}: {read.get_vocab_size()} tokens, {len(cases)} cases, {sizes}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("out", type=pathlib.Path)
    out = arguments.parse_args().out
    text = [render(*chapter).lstrip("\0") for chapter in read_chapters()[:200]]

    gpt2 = trained(text, pre_tokenizers.ByteLevel(add_prefix_space=False), ["<|endoftext|>"], ignore_merges=False)
    gpt2.post_processor = processors.ByteLevel(trim_offsets=False)
    write(out / "tokenizer_gpt2", gpt2, "<|endoftext|>", merges_as_strings=True)

    split = pre_tokenizers.Split(Regex(LLAMA3_PATTERN), behavior="isolated", invert=False)
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False)
    llama3 = trained(text, pre_tokenizers.Sequence([split, bytes_only]), ["<|begin_of_text|>", "<|end_of_text|>"], ignore_merges=True)
    begin = "<|begin_of_text|>"
    template = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A {begin}:1 $B:1", special_tokens=[(begin, llama3.token_to_id(begin))])
    llama3.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    write(out / "tokenizer_llama3", llama3, begin, merges_as_strings=False)


if __name__ == "__main__":
    main()
