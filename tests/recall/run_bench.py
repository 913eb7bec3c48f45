#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run bench_eviction_quality on one model and few sequences; its file must hold a share for every method, budget and question."""

import json
import math
import pathlib
import subprocess
import sys
import tempfile


def main():
    bench = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "quality.json"
        subprocess.run([bench, "--models", "1", "--sequences", "4", "--windows", "0", "--threads", "2", "--json", file], check=True)
        records = json.loads(file.read_text())["records"]
        if subprocess.run([bench, "--json", pathlib.Path(folder) / "no" / "such.json", "--models", "1", "--sequences", "1", "--windows", "0"],
                          stdout=subprocess.DEVNULL).returncode == 0:
            raise SystemExit("a file that cannot be written must be told")
    for metric in ("unseen keys", "seen keys", "aggregate"):
        cases = {r["case"]: r["value"] for r in records if r["metric"] == metric and "seed" not in r["case"]}
        methods, budgets = ({case.rsplit(" ", 1)[i] for case in cases} for i in (0, 1))
        if len(budgets) != 9 or len(methods) < 20 or len(cases) != len(methods) * len(budgets):
            raise SystemExit(f"{metric}: {len(methods)} methods, {len(budgets)} budgets, {len(cases)} figures")
        if not all(math.isfinite(v) and 0 <= v <= 1 for v in cases.values()):
            raise SystemExit(f"{metric}: a value is no share")
    for record in records:
        if record["metric"] == "rows kept" and not 0 < record["value"] <= 0.2501:
            raise SystemExit(f"{record['case']} kept {record['value']} of the rows, more than its budget")


if __name__ == "__main__":
    main()
