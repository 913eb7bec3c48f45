#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write the King James text of Debian's `bible-kjv` package as training and held-out bytes.

The text comes from the program `bible` alone; nothing is downloaded. A chapter is laid out as it is read:

    Genesis 1

    1 In the beginning God created the heaven and the earth.
    2 And the earth was without form, and void; and ...

with a blank line before the next chapter and a zero byte before each book. Every `--hold-out-every`-th chapter, counted over the whole
text, is kept out of training. Writes `train.bin` and `heldout.bin` into the given folder.
"""

import argparse
import pathlib
import re
import subprocess

BOOK_MARK = "\0"
HEADING = re.compile(r"^(\S.*?)\s+(\d+)$")
VERSE = re.compile(r"^ {1,3}(\d+) (.*)$")


def read_chapters():
    """Yield (book, chapter, [verse text]) in order."""
    run = subprocess.run(["bible", "-l79", "gen1:1-rev22:21"], check=True, capture_output=True, text=True)
    chapters = []
    for line in run.stdout.splitlines():
        if not line.strip():
            continue
        heading = HEADING.match(line)
        verse = VERSE.match(line)
        at_chapter_end = not chapters or chapters[-1][2]
        if heading and at_chapter_end and is_next_chapter(chapters, heading):
            chapters.append((heading[1], int(heading[2]), []))
        elif verse and int(verse[1]) == len(chapters[-1][2]) + 1:
            chapters[-1][2].append(verse[2].strip())
        else:
            chapters[-1][2][-1] += " " + line.strip()
    return [(book, number, [re.sub(r"\s+", " ", v) for v in verses]) for book, number, verses in chapters]


def is_next_chapter(chapters, heading):
    if not chapters:
        return True
    book, number, _ = chapters[-1]
    return (heading[1] == book and int(heading[2]) == number + 1) or (heading[1] != book and int(heading[2]) == 1)


def render(book, number, verses):
    mark = BOOK_MARK if number == 1 else ""
    return mark + f"{book} {number}\n\n" + "".join(f"{i} {v}\n" for i, v in enumerate(verses, 1)) + "\n"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("out", type=pathlib.Path)
    arguments.add_argument("--hold-out-every", type=int, default=25)
    options = arguments.parse_args()

    chapters = read_chapters()
    verses = sum(len(c[2]) for c in chapters)
    books = len({c[0] for c in chapters})
    if (books, len(chapters), verses) != (66, 1189, 31102):
        raise SystemExit(f"read {books} books, {len(chapters)} chapters, {verses} verses; the King James text has 66, 1189, 31102")

    parts = {"train.bin": [], "heldout.bin": []}
    for index, chapter in enumerate(chapters):
        held_out = index % options.hold_out_every == options.hold_out_every // 2
        parts["heldout.bin" if held_out else "train.bin"].append(render(*chapter))
    options.out.mkdir(parents=True, exist_ok=True)
    for name, texts in parts.items():
        data = "".join(texts).encode("ascii")
        (options.out / name).write_bytes(data)
        print(f"{name}: {len(texts)} chapters, {len(data)} bytes")


if __name__ == "__main__":
    main()
