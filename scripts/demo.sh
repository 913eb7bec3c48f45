#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the decoder and lets it continue a prompt with the model that comes with it. On a fresh Debian machine it
# installs what is missing first.
# Usage: scripts/demo.sh [vtensor-decoder options]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/packages.sh

need_packages "${build_packages[@]}"
echo "Building the decoder (a few minutes the first time) ..."
cmake --preset release -B build/demo -DVTENSOR_BUILD_TESTS=OFF -DVTENSOR_BUILD_BENCH=OFF "${launcher_options[@]}" \
    >/dev/null
# How far it is, on a terminal.
show_progress() {
    local line
    while IFS= read -r line; do
        [[ -t 1 && $line =~ ^\[([0-9]+/[0-9]+)\] ]] && printf '\r  %s ' "${BASH_REMATCH[1]}"
    done
    [ ! -t 1 ] || printf '\r\033[K'
}
if ! cmake --build build/demo --target vtensor-decoder 2>&1 | tee build/demo/build.log | show_progress; then
    tail -n 30 build/demo/build.log >&2
    echo "The build failed; all of it is in build/demo/build.log." >&2
    exit 1
fi

options=(--model examples/decoder/model --prompt "And it came to pass in those days, that" --max-tokens 400
    --temperature 0.6 --top-p 0.9 --seed 7)
# What is given on the command line comes last and wins.
exec build/demo/examples/decoder/vtensor-decoder "${options[@]}" "$@"
