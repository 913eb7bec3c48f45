#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the decoder and lets it continue a prompt with the model that comes with it. On a fresh Debian machine it
# installs what is missing first.
# Usage: scripts/demo.sh [vtensor-decoder options]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/packages.sh

need_packages "${build_packages[@]}"
echo "Building the decoder (about a minute the first time) ..."
cmake --preset release -B build/demo -DVTENSOR_BUILD_TESTS=OFF -DVTENSOR_BUILD_BENCH=OFF "${launcher_options[@]}" \
    >/dev/null
if ! cmake --build build/demo --target vtensor-decoder >build/demo/build.log 2>&1; then
    tail -n 30 build/demo/build.log >&2
    echo "The build failed; all of it is in build/demo/build.log." >&2
    exit 1
fi

options=(--model examples/decoder/model --prompt "And it came to pass in those days, that" --max-tokens 400
    --temperature 0.6 --top-p 0.9 --seed 7)
# What is given on the command line comes last and wins.
exec build/demo/examples/decoder/vtensor-decoder "${options[@]}" "$@"
