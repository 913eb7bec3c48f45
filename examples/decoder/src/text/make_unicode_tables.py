#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Print the ranges of letters (category L*) and numbers (N*) as unicode_tables.inc, from Python's own Unicode data."""

import sys
import unicodedata


def ranges(category):
    found = []
    for point in range(sys.maxunicode + 1):
        if unicodedata.category(chr(point))[0] != category:
            continue
        if found and found[-1][1] == point - 1:
            found[-1][1] = point
        else:
            found.append([point, point])
    return found


def table(name, category):
    entries = [f"{{0x{low:X}, 0x{high:X}}}," for low, high in ranges(category)]
    print(f"constexpr code_range {name}[] = {{")
    line = "   "
    for entry in entries:
        if len(line) + 1 + len(entry) > 110:
            print(line)
            line = "   "
        line += " " + entry
    print(line + "\n};")


print("// SPDX-License-Identifier: Apache-2.0")
print(f"// Written by make_unicode_tables.py from Unicode {unicodedata.unidata_version}; do not edit.")
table("letters", "L")
table("numbers", "N")
