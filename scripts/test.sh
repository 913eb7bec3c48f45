#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds everything and runs every test. On a fresh Debian machine it installs what is missing first.
# Usage: scripts/test.sh [ctest options]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/packages.sh

need_packages "${test_packages[@]}"
cmake --preset release -DVTENSOR_BUILD_TESTS=ON -DVTENSOR_BUILD_EXAMPLES=ON -DVTENSOR_BUILD_BENCH=ON \
    "${launcher_options[@]}" >/dev/null
cmake --build --preset release
ctest --preset release "$@"
