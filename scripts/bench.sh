#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the benchmarks and writes what they print to docs/results/NAME.md and their records to docs/results/NAME-*.json.
# Give the machine a rest meanwhile: figures are ratios inside one run, but a busy neighbour still shows as spread.
# Usage: scripts/bench.sh [NAME [BENCH...]]   NAME is host-<date> where none is given; BENCH: only these, for example
#                                             `defrag manager`; the page's other sections stay as they are
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/packages.sh

need_packages "${build_packages[@]}"
name=${1:-host-$(date -u +%Y-%m-%d)}
all=(mapping growth attention_host defrag eviction prefix_tree manager trace)
chosen=("${@:2}")
[ ${#chosen[@]} -gt 0 ] || chosen=("${all[@]}")
for bench in "${chosen[@]}"; do
    [[ " ${all[*]} " == *" $bench "* ]] || { echo "There is no bench '$bench', only: ${all[*]}" >&2; exit 2; }
done
cmake --preset release -B build/bench -DVTENSOR_BUILD_TESTS=OFF -DVTENSOR_BUILD_EXAMPLES=OFF \
    "${launcher_options[@]}" >/dev/null
cmake --build build/bench

page=docs/results/$name.md
sections=$(mktemp -d)
trap 'rm -rf "$sections"' EXIT
# What the page has so far, a file a section.
[ ! -f "$page" ] || awk -v folder="$sections" '/^## bench_/ { out = folder "/" substr($2, 7) } out { print >out }' "$page"

for bench in "${chosen[@]}"; do
    echo "bench_$bench ..."
    picture=()
    [ "$bench" != trace ] || picture=(--svg "docs/results/$name-trace.svg")
    {
        echo "## bench_$bench"
        echo
        echo "At revision $(git rev-parse --short HEAD)$(git diff --quiet HEAD -- include backends bench || echo ' with changes'), $(date -u +%Y-%m-%d)."
        echo
        echo '```'
        build/bench/bench/bench_$bench --json "docs/results/$name-$bench.json" "${picture[@]}"
        echo '```'
        [ ${#picture[@]} -eq 0 ] || printf '\n![Memory over time, by manager](%s)\n' "$name-trace.svg"
    } >"$sections/new"
    mv "$sections/new" "$sections/$bench"
done

{
    echo "# Host benchmarks"
    echo
    echo "Written by \`scripts/bench.sh\`. \`limit\` was measured in the same run; \`ratio\` is the figure that a bar speaks of;"
    echo "\`spread\` is half the distance between the quartiles. What is measured and how stands at the head of each"
    echo "\`bench/*.cpp\`."
    for bench in "${all[@]}"; do
        [ ! -f "$sections/$bench" ] || printf '\n%s\n' "$(<"$sections/$bench")"
    done
} >"$page"
echo "Written: $page"
