#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trees that break the include order, each in one way: the checker must say so, and of nothing else."""

import contextlib
import io
import tempfile
import unittest
from pathlib import Path

import include_order

GOOD = {
    "core/units.hpp": "#pragma once\n#include <cstddef>\n#include <boost/config.hpp>\n",
    "core/error.hpp": "#include <vtensor/core/units.hpp>\n",
    "view.hpp": "#include <vtensor/core/units.hpp>\n",
    "row_shape.hpp": "#include <vtensor/core/units.hpp>\n",
    "policy/growth.hpp": "#include <vtensor/core/units.hpp>\n",
    "memory/pool.hpp": "#include <vtensor/core/error.hpp>\n#include <boost/intrusive/list.hpp>\n",
    "memory/range.hpp": "#include <vtensor/memory/pool.hpp>\n",
    "adaptors/counting.hpp": "#include <vtensor/adaptors/detail/forwarding.hpp>\n",
    "adaptors/detail/forwarding.hpp": "#include <vtensor/core/error.hpp>\n",
    "attention/host.hpp": "#include <vtensor/view.hpp>\n#include <hwy/highway.h>\n",
    "backends/host.hpp": "#include <vtensor/backends/host/file.hpp>\n#include <sys/mman.h>\n",
    "backends/host/file.hpp": "#include <vtensor/core/error.hpp>\n#include <unistd.h>\n",
    "backends/os/handle.hpp": "#include <unistd.h>\n",
    "backends/cuda.hpp": "#include <vtensor/core/error.hpp>\n#include <vtensor/backends/os/handle.hpp>\n"
                         "#include <vtensor/backends/detail/device.hpp>\n",
    "backends/detail/device.hpp": "#include <vtensor/core/error.hpp>\n#include <dlfcn.h>\n",
    "virtual_tensor.hpp": "#include <vtensor/memory/range.hpp>\n#include <vtensor/policy/growth.hpp>\n"
                          "#include <vtensor/view.hpp>\n#include <vtensor/row_shape.hpp>\n",
    "kv/cache.hpp": "#include <vtensor/virtual_tensor.hpp>\n#include <vtensor/attention/host.hpp>\n",
    "interop/dlpack.hpp": "#include <vtensor/virtual_tensor.hpp>\n",
    "interop/sharing.hpp": "#include <vtensor/backends/os/handle.hpp>\n",
}

# header, a line added to it, what the complaint must contain
BAD = [
    ("core/error.hpp", "#include <vtensor/view.hpp>", "'core' may not see 'view.hpp'"),
    ("core/units.hpp", "#include <sys/mman.h>", "'core' may not see <sys/mman.h>"),
    ("core/units.hpp", "#include <Eigen/Core>", "'core' may not see <Eigen/Core>"),
    ("view.hpp", "#include <vtensor/memory/pool.hpp>", "'view.hpp' may not see 'memory'"),
    ("policy/growth.hpp", "#include <vtensor/memory/pool.hpp>", "'policy' may not see 'memory'"),
    ("memory/pool.hpp", "#include <vtensor/policy/growth.hpp>", "'memory' may not see 'policy'"),
    ("memory/pool.hpp", "#include <vtensor/backends/host.hpp>", "'memory' may not see 'backends/host'"),
    ("memory/pool.hpp", "#include <unistd.h>", "'memory' may not see <unistd.h>"),
    ("memory/pool.hpp", "#include <hwy/highway.h>", "'memory' may not see <hwy/highway.h>"),
    ("adaptors/counting.hpp", "#include <vtensor/memory/pool.hpp>", "'adaptors' may not see 'memory'"),
    ("attention/host.hpp", "#include <vtensor/virtual_tensor.hpp>", "'attention' may not see 'virtual_tensor.hpp'"),
    ("backends/host.hpp", "#include <vtensor/backends/cuda.hpp>", "'backends/host' may not see 'backends/cuda'"),
    ("backends/cuda.hpp", "#include <vtensor/backends/host/file.hpp>", "'backends/cuda' may not see 'backends/host'"),
    ("backends/host.hpp", "#include <vtensor/memory/pool.hpp>", "'backends/host' may not see 'memory'"),
    ("virtual_tensor.hpp", "#include <vtensor/backends/host.hpp>", "'virtual_tensor.hpp' may not see 'backends/host'"),
    ("virtual_tensor.hpp", "  #  include <vtensor/adaptors/counting.hpp>", "may not see 'adaptors'"),
    ("kv/cache.hpp", "#include <vtensor/adaptors/counting.hpp>", "'kv' may not see 'adaptors'"),
    ("interop/dlpack.hpp", "#include <vtensor/policy/growth.hpp>", "'interop' may not see 'policy'"),
    ("interop/sharing.hpp", "#include <vtensor/backends/host.hpp>", "'interop' may not see 'backends/host'"),
    ("interop/sharing.hpp", "#include <sys/socket.h>", "'interop' may not see <sys/socket.h>"),
    ("backends/detail/device.hpp", "#include <vtensor/backends/host.hpp>",
     "'backends/detail' may not see 'backends/host'"),
    ("backends/os/handle.hpp", "#include <vtensor/backends/host.hpp>", "'backends/os' may not see 'backends/host'"),
    ("memory/pool.hpp", '#include "range.hpp"', 'includes "range.hpp" in quotes'),
    ("memory/pool.hpp", "#include <vtensor/memory/gone.hpp>", "which does not exist"),
    ("memory/pool.hpp", "#include <vtensor/memory/range.hpp>",
     "a cycle of includes: memory/range.hpp -> memory/pool.hpp -> memory/range.hpp"),
    ("shed/tool.hpp", "#include <cstddef>", "'shed' is no room of the library"),
]


class IncludeOrder(unittest.TestCase):
    def test_a_good_tree_has_no_complaint(self):
        self.assertEqual(include_order.check(GOOD), [])

    def test_each_bad_tree_has_just_its_own_complaint(self):
        for header, line, expected in BAD:
            with self.subTest(header=header, line=line):
                complaints = include_order.check({**GOOD, header: GOOD.get(header, "") + line + "\n"})
                self.assertEqual(len(complaints), 1, complaints)
                self.assertIn(expected, complaints[0])

    def run_on(self, files):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            for name, text in files.items():
                path = Path(folder) / "vtensor" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            return include_order.main([folder])

    def test_the_program_fails_on_a_bad_tree_and_on_none(self):
        self.assertEqual(self.run_on(GOOD), 0)
        self.assertEqual(self.run_on({**GOOD, "core/units.hpp": "#include <vtensor/view.hpp>\n"}), 1)
        self.assertEqual(self.run_on({}), 1)


if __name__ == "__main__":
    unittest.main()
