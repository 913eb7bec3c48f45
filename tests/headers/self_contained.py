#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compiles every header alone, and twice over, without generating code.

    self_contained.py DIR... -- COMPILER FLAG...

Prints the compiler's message for each header that does not compile, and exits with 1.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def compile_alone(command, header):
    source = f"#include <{header}>\n#include <{header}>\n"
    # From standard input: no file is written, and the header is not the main file, where #pragma once warns.
    return subprocess.run([*command, "-fsyntax-only", "-x", "c++", "-"], input=source, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)


def main(arguments):
    split = arguments.index("--")
    folders, command = arguments[:split], arguments[split + 1:]
    headers = sorted(path.relative_to(folder).as_posix() for folder in map(Path, folders)
                     for path in folder.rglob("*.hpp"))
    if not headers:
        print("no headers found in", *folders)
        return 1
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        outcomes = list(threads.map(lambda header: compile_alone(command, header), headers))
    failures = [(header, outcome.stdout) for header, outcome in zip(headers, outcomes) if outcome.returncode != 0]
    for header, message in failures:
        print(f"{header} does not compile alone:\n{message}")
    print(f"{len(headers) - len(failures)} of {len(headers)} headers compile alone")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
