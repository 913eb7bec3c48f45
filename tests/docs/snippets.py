#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Takes the C++ snippets out of the manual, so that the tests compile them and run the programs among them.

    snippets.py OUTPUT_FOLDER ROOT FILE.md...

Every block that opens with ```cpp is one translation unit, written to OUTPUT_FOLDER/<page>_<number>.cpp with
#line directives that lead back to the page. Prints "unit PATH" or "program PATH" for each. A file that already
holds the same text is left alone, so that it is not compiled again.
"""

import re
import sys
from pathlib import Path

FENCE = re.compile(r"^(?P<indent>\s*)```(?P<language>\S*)(?P<rest>.*)$")
MAIN = re.compile(r"^int main\(", re.MULTILINE)


def snippets_in(text):
    """The C++ blocks of a page: (number of the first line, lines)."""
    found, block, first = [], None, 0
    inside_other = False
    for number, line in enumerate(text.splitlines(), start=1):
        fence = FENCE.match(line)
        if fence is None:
            if block is not None:
                block.append(line)
        elif block is not None:
            found.append((first, block))
            block = None
        elif inside_other:
            inside_other = False
        elif fence["language"] == "cpp":
            if fence["rest"].strip() or fence["indent"]:
                raise ValueError(f"line {number}: a C++ block opens with ```cpp at the start of the line and no more")
            block, first = [], number + 1
        elif fence["language"].lower() in ("c++", "cc", "cxx", "c"):
            raise ValueError(f"line {number}: write ```cpp, so that the block is compiled")
        else:
            inside_other = True
    if block is not None or inside_other:
        raise ValueError("a block is never closed")
    return found


def is_program(lines):
    return MAIN.search("\n".join(lines)) is not None


def page_name(page, root):
    return re.sub(r"\W", "_", page.relative_to(root).with_suffix("").as_posix()).lower()


def extract(output, root, pages):
    """Writes the files; returns ("unit" or "program", path) for each."""
    written = []
    for page in pages:
        for index, (first, lines) in enumerate(snippets_in(page.read_text(encoding="utf-8")), start=1):
            path = output / f"{page_name(page, root)}_{index}.cpp"
            text = f'#line {first} "{page.as_posix()}"\n' + "\n".join(lines) + "\n"
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8")
            written.append(("program" if is_program(lines) else "unit", path))
    return written


def main(arguments):
    output, root, pages = Path(arguments[0]), Path(arguments[1]), [Path(page) for page in arguments[2:]]
    output.mkdir(parents=True, exist_ok=True)
    try:
        written = extract(output, root, pages)
    except ValueError as complaint:
        print(complaint, file=sys.stderr)
        return 1
    for stale in set(output.glob("*.cpp")) - {path for _, path in written}:
        stale.unlink()
    for kind, path in written:
        print(kind, path.as_posix())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
