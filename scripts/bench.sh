#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the benchmarks and writes what they print to docs/results/NAME.md and their records to docs/results/NAME-*.json.
# Give the machine a rest meanwhile: figures are ratios inside one run, but a busy neighbour still shows as spread.
# Usage: scripts/bench.sh [NAME]        NAME is host-<date> where none is given
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/packages.sh

need_packages "${build_packages[@]}"
name=${1:-host-$(date -u +%Y-%m-%d)}
cmake --preset release -B build/bench -DVTENSOR_BUILD_TESTS=OFF -DVTENSOR_BUILD_EXAMPLES=OFF \
    "${launcher_options[@]}" >/dev/null
cmake --build build/bench

page=docs/results/$name.md
{
    echo "# Host benchmarks, $(date -u +%Y-%m-%d)"
    echo
    echo "Written by \`scripts/bench.sh\` at revision $(git rev-parse --short HEAD)$(git diff --quiet HEAD || echo ' with changes')."
    echo "\`limit\` was measured in the same run; \`ratio\` is the figure that a bar speaks of; \`spread\` is half the"
    echo "distance between the quartiles. What is measured and how stands at the head of each \`bench/*.cpp\`."
} >"$page"
for bench in mapping growth attention_host defrag eviction prefix_tree manager trace; do
    echo "bench_$bench ..."
    picture=()
    [ "$bench" != trace ] || picture=(--svg "docs/results/$name-trace.svg")
    {
        echo
        echo "## bench_$bench"
        echo
        echo '```'
        build/bench/bench/bench_$bench --json "docs/results/$name-$bench.json" "${picture[@]}"
        echo '```'
        [ ${#picture[@]} -eq 0 ] || printf '\n![Memory over time, by manager](%s)\n' "$name-trace.svg"
    } >>"$page"
done
echo "Written: $page"
