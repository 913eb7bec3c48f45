#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs clang-tidy over every header of the library, through one file that includes them all and uses the templates.
# Needs a configured build/release.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/packages.sh
need_packages clang-tidy

all=build/release/tidy_all_headers.cpp
{ (cd include && find vtensor -name '*.hpp'); (cd backends/include && find vtensor -name '*.hpp'); } | sort |
    sed 's/.*/#include <&>/' >"$all"
cat >>"$all" <<'EOF_USE'
// Uses, so that the templates are instantiated.
using namespace vtensor;
void use_exact(chunk_pool<host_backend>& pool) {
    virtual_tensor<float, host_backend, growth::geometric<3, 2>> tensor{pool, {2, 64}, 1024};
    tensor.append(3);
    tensor.prepare(100);
    tensor.trim();
    tensor.resize(1);
}
void use_look_ahead(chunk_pool<host_backend, std::mutex>& pool, mapper& thread) {
    virtual_tensor<float16, host_backend, growth::look_ahead<4>> tensor{pool, thread, {2, 64}, 1024};
    tensor.append(3);
    tensor.trim();
    throw_if_failed(tensor.look_ahead_status());
}
EOF_USE
clang-tidy --quiet --warnings-as-errors='*' "$all" -- -std=c++20 -Iinclude -Ibackends/include -march=x86-64-v3
