#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks by the #include lines that no room of the library sees what it may not see.

    include_order.py DIR...    every DIR holds a folder vtensor/, as include/ and backends/include/ do

Prints one line for each violation and exits with 1, or prints how many headers it read and exits with 0.
"""

import re
import sys
from pathlib import Path

# Which rooms the headers of a room may include, its own always among them. docs/adr says why.
MAY_SEE = {
    "core": set(),
    "view.hpp": {"core"},
    "row_shape.hpp": {"core"},
    "policy": {"core", "view.hpp"},
    "memory": {"core", "view.hpp"},
    "adaptors": {"core", "view.hpp"},
    "attention": {"core", "view.hpp"},
    "backends": {"core", "view.hpp", "backends/detail", "backends/os"},
    "tensor": {"core", "view.hpp", "row_shape.hpp", "policy", "memory"},
    "virtual_tensor.hpp": {"core", "view.hpp", "row_shape.hpp", "policy", "memory", "tensor"},
    "tensor_group.hpp": {"core", "view.hpp", "row_shape.hpp", "policy", "memory", "tensor", "virtual_tensor.hpp"},
    "ring_tensor.hpp": {"core", "view.hpp", "row_shape.hpp", "policy", "memory", "tensor"},
    "kv": {"core", "view.hpp", "row_shape.hpp", "tensor", "virtual_tensor.hpp", "tensor_group.hpp", "policy", "memory",
           "attention"},
    "interop": {"core", "view.hpp", "row_shape.hpp", "virtual_tensor.hpp", "backends/os"},
}

# Headers of other libraries, and of the compiler, beyond the standard library and Boost. A backend names its system's and its
# driver's headers, nobody else does.
OTHER_LIBRARIES = {"attention": ("hwy/",), "memory": ("emmintrin.h",)}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def room_of(header):
    """core/errc.hpp -> core, view.hpp -> view.hpp, backends/host/x.hpp -> backends/host."""
    parts = header.split("/")
    if parts[0] == "backends" and len(parts) > 1:
        return "backends/" + parts[1].removesuffix(".hpp")
    return parts[0]


def rules_of(room):
    return MAY_SEE.get("backends" if room.startswith("backends/") else room)


def is_standard(name):
    return "/" not in name and "." not in name


def complaints_about(header, text, known):
    room = room_of(header)
    visible = rules_of(room)
    if visible is None:
        yield f"{header}: '{room}' is no room of the library"
        return
    for bracket, name in INCLUDE.findall(text):
        if bracket == '"':
            yield f'{header}: includes "{name}" in quotes; write <vtensor/...>'
        elif name.startswith("vtensor/"):
            target = name.removeprefix("vtensor/")
            if target not in known:
                yield f"{header}: includes <{name}>, which does not exist"
            elif room_of(target) != room and room_of(target) not in visible:
                yield f"{header}: '{room}' may not see '{room_of(target)}', but includes <{name}>"
        elif not (is_standard(name) or name.startswith("boost/") or room.startswith("backends/")
                  or name.startswith(OTHER_LIBRARIES.get(room, ("\0",)))):
            yield f"{header}: '{room}' may not see <{name}>"


def cycle_in(graph):
    """The headers of one cycle of includes, or none."""
    finished, path = set(), []

    def visit(header):
        if header in path:
            return path[path.index(header):] + [header]
        if header in finished:
            return None
        path.append(header)
        for target in graph[header]:
            found = visit(target)
            if found:
                return found
        path.pop()
        finished.add(header)
        return None

    for header in sorted(graph):
        found = visit(header)
        if found:
            return found
    return None


def check(headers):
    """headers: path below vtensor/ -> text. Returns the complaints."""
    complaints = []
    for header, text in sorted(headers.items()):
        complaints += complaints_about(header, text, headers)
    graph = {header: [name.removeprefix("vtensor/") for _, name in INCLUDE.findall(text)
                      if name.removeprefix("vtensor/") in headers and name.startswith("vtensor/")]
             for header, text in headers.items()}
    cycle = cycle_in(graph)
    if cycle:
        complaints.append("a cycle of includes: " + " -> ".join(cycle))
    return complaints


def read(folders):
    headers = {}
    for folder in folders:
        root = Path(folder) / "vtensor"
        for path in root.rglob("*.hpp"):
            headers[path.relative_to(root).as_posix()] = path.read_text(encoding="utf-8")
    return headers


def main(folders):
    headers = read(folders)
    if not headers:
        print("no headers found in", *folders)
        return 1
    complaints = check(headers)
    for complaint in complaints:
        print(complaint)
    if not complaints:
        print(f"{len(headers)} headers keep the include order")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
