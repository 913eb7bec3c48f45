#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run bench_trace --quick; its file must hold every figure of every manager on every workload, its chart be XML, its refusals be told."""

import json
import math
import pathlib
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

METRICS = ("held peak", "held mean", "held worst ratio to tokens", "physical peak", "physical mean", "physical worst ratio to tokens",
           "waste mean", "kept for reuse mean", "sequences peak", "sequences mean", "answers", "finished", "refused", "preemptions", "recomputed",
           "prefix hits", "steps", "managing a step mean", "managing a step p99", "managing a step max", "managing a steady step p99",
           "managing share", "managing hidden")


def refuse(what):
    raise SystemExit(f"run_bench.py: {what}")


def main():
    bench = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        file, chart = folder / "trace.json", folder / "trace.svg"
        subprocess.run([bench, "--quick", "--json", file, "--svg", chart], check=True)
        records = json.loads(file.read_text())["records"]
        drawn = xml.etree.ElementTree.parse(chart).getroot()

        own = folder / "own.csv"
        own.write_text("num_decode_tokens,num_prefill_tokens\r\n4.0,100.0\r\n1,7\r\n")
        subprocess.run([bench, "--quick", "--trace", own, "--manager", "blocks of 16", "--json", folder / "own.json"], check=True,
                       stdout=subprocess.DEVNULL)
        mine = {r["metric"]: r["value"] for r in json.loads((folder / "own.json").read_text())["records"]}
        if mine["finished"] != 2 or mine["refused"] != 0:
            refuse(f"a trace of two requests gave {mine}")

        (folder / "bad.csv").write_text("num_prefill_tokens,num_decode_tokens\n5,x\n")
        quick = ["--quick", "--requests", "1", "--limit-mib", "32"]
        for bad in (["--no-such", "1"], ["--trace", folder / "none.csv"], ["--trace", folder / "bad.csv"], ["--manager", "none"],
                    [*quick, "--json", folder / "no" / "such.json"], [*quick, "--svg", folder / "no" / "such.svg"]):
            told = subprocess.run([bench, *bad], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            if told.returncode != 2 or not told.stderr.startswith("bench_trace: "):
                refuse(f"{bad} ended with {told.returncode} and said {told.stderr!r}")

    cases = {}
    for record in records:
        cases.setdefault(record["case"], {})[record["metric"]] = record["value"]
    workloads = {case.split(",")[0] for case in cases}
    managers = {case.rsplit(", ", 1)[1] for case in cases}
    if len(workloads) != 4 or len(managers) < 2 or len(cases) != len(workloads) * len(managers):
        refuse(f"{sorted(cases)}: not every manager ran every workload")
    for case, found in cases.items():
        missing = [metric for metric in METRICS if metric not in found]
        if missing or not all(math.isfinite(found[metric]) for metric in METRICS):
            refuse(f"{case}: {missing or found}")
        if found["finished"] <= 0 or found["refused"] != 0:
            refuse(f"{case}: {found['finished']} answers, {found['refused']} refusals")
        if found["held worst ratio to tokens"] < 1 or not 0 <= found["prefix hits"] <= 1:
            refuse(f"{case}: {found}")
    if len(drawn.findall(".//{http://www.w3.org/2000/svg}polyline")) != 2 * len(cases):
        refuse("the chart lacks lines")


if __name__ == "__main__":
    main()
