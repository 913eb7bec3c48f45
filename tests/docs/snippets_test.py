#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The extractor finds every C++ block and nothing else, and the quick start keeps its promise of 30 lines."""

import sys
import tempfile
import unittest
from pathlib import Path

import snippets

ROOT = Path(__file__).resolve().parents[2]

PAGE = """# Title

```cpp
struct a {};
```
text
```sh
echo "```" > no_block
```
```
plain
```

```cpp
#include <x>

int main() { return 0; }
```
"""


class Snippets(unittest.TestCase):
    def test_cpp_blocks_are_found_with_their_lines(self):
        self.assertEqual(snippets.snippets_in(PAGE),
                         [(4, ["struct a {};"]), (15, ["#include <x>", "", "int main() { return 0; }"])])

    def test_a_program_is_what_has_a_main(self):
        self.assertEqual([snippets.is_program(lines) for _, lines in snippets.snippets_in(PAGE)], [False, True])

    def test_blocks_that_would_escape_are_refused(self):
        for text in ("```c++\nint x;\n```\n", "```cpp ignore\nint x;\n```\n", "  ```cpp\nint x;\n```\n",
                     "```cpp\nint x;\n", "```sh\nls\n"):
            with self.subTest(text=text), self.assertRaises(ValueError):
                snippets.snippets_in(text)

    def test_files_lead_back_to_the_page(self):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            page = root / "docs" / "a-page.md"
            page.parent.mkdir()
            page.write_text(PAGE, encoding="utf-8")
            written = snippets.extract(root, root, [page])
            self.assertEqual([(kind, path.name) for kind, path in written],
                             [("unit", "docs_a_page_1.cpp"), ("program", "docs_a_page_2.cpp")])
            self.assertEqual(written[0][1].read_text(encoding="utf-8"),
                             f'#line 4 "{page.as_posix()}"\nstruct a {{}};\n')

    def test_the_readme_has_one_program_of_at_most_30_lines(self):
        blocks = [lines for _, lines in snippets.snippets_in((ROOT / "README.md").read_text(encoding="utf-8"))]
        programs = [lines for lines in blocks if snippets.is_program(lines)]
        self.assertEqual(len(programs), 1)
        self.assertLessEqual(len(programs[0]), 30)


if __name__ == "__main__":
    sys.exit(unittest.main())
