#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Cut held-out.txt from what examples/decoder/train/prepare_text.py kept out of training: the beginnings of chapters, spread over the text."""

import argparse
import pathlib
import re


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("held_out", type=pathlib.Path, help="heldout.bin of prepare_text.py")
    arguments.add_argument("out", type=pathlib.Path)
    arguments.add_argument("--windows", type=int, default=8)
    arguments.add_argument("--length", type=int, default=1024, help="bytes a window")
    options = arguments.parse_args()

    text = options.held_out.read_bytes().replace(b"\0", b"")
    starts = [m.start() for m in re.finditer(rb"(?m)^\S.* \d+\n\n1 ", text)] + [len(text)]
    chapters = [text[a:b] for a, b in zip(starts, starts[1:]) if b - a >= options.length]
    chosen = [chapters[i * len(chapters) // options.windows] for i in range(options.windows)]
    options.out.write_bytes(b"".join(chapter[: options.length] for chapter in chosen))
    print(f"{len(chapters)} of {len(starts) - 1} chapters are long enough; took " + ", ".join(c.splitlines()[0].decode() for c in chosen))


if __name__ == "__main__":
    main()
