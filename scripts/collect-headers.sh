#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copies the third-party headers that the library, its GPU tests and the decoder include from the installed Debian
# packages to third_party_headers/, for a machine that has a compiler and no package manager. They go there with the checkout:
#     scripts/collect-headers.sh
#     scp -r . gpu-machine:vtensor        (git ignores the folder)
#     ssh gpu-machine vtensor/scripts/gpu-check.sh
# Usage: scripts/collect-headers.sh [FOLDER]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/packages.sh

need_packages g++ libboost-dev catch2 libeigen3-dev nlohmann-json3-dev libcli11-dev libhwy-dev
to=${1:-third_party_headers}
[ ! -e "$to" ] || [ -e "$to/.collected" ] || [ -z "$(ls -A "$to")" ] || {
    echo "$to was not made by this script: give another folder" >&2
    exit 2
}
rm -rf "$to"
mkdir -p "$to/cmake"
touch "$to/.collected"

# What our headers include, whichever of them a program includes.
all=$(mktemp --suffix=.cpp)
trap 'rm -f "$all"' EXIT
{ (cd include && find vtensor -name '*.hpp' ! -path 'vtensor/attention/*'); (cd backends/include && find vtensor -name '*.hpp'); } |
    sort | sed 's/.*/#include <&>/' >"$all"
{
    g++ -std=c++20 -M -Iinclude -Ibackends/include "$all"
    g++ -std=c++20 -M -DNDEBUG -Iinclude -Ibackends/include "$all"
} | tr -s ' \\' '\n\n' | grep '^/usr/include/boost/' | sort -u >"$to/.boost"
# Other compilers take other branches: these rooms whole.
find /usr/include/boost/config /usr/include/boost/intrusive /usr/include/boost/move /usr/include/boost/container_hash \
    -name '*.hpp' >>"$to/.boost" 2>/dev/null || true
echo /usr/include/boost/version.hpp >>"$to/.boost"
sort -u "$to/.boost" | while read -r header; do
    install -D -m 644 "$header" "$to/${header#/usr/include/}"
done
rm -f "$to/.boost"

# Catch2, version 2 a single header, version 3 a library, which cannot be copied like this.
if [ ! -f /usr/include/catch2/catch.hpp ]; then
    echo "Catch2 version 2 is not installed: /usr/include/catch2/catch.hpp is missing" >&2
    exit 2
fi
install -D -m 644 /usr/include/catch2/catch.hpp "$to/catch2/catch.hpp"

# What the decoder includes, each of them whole where compilers or processors take other branches.
(cd /usr/include/eigen3 && find Eigen/Core Eigen/src/Core Eigen/src/misc Eigen/src/plugins -type f; true) 2>/dev/null |
    while read -r header; do install -D -m 644 "/usr/include/eigen3/$header" "$to/$header"; done
for room in CLI nlohmann hwy; do
    (cd /usr/include && find "$room" -name '*.h' -o -name '*.hpp' | grep "^$room/") |
        while read -r header; do install -D -m 644 "/usr/include/$header" "$to/$header"; done
done

# package NAME VERSION TARGET: what CMake's find_package reads.
package() {
    cat >"$to/cmake/$1Config.cmake" <<EOF_CONFIG
if(NOT TARGET $3)
    add_library($3 INTERFACE IMPORTED)
    get_filename_component(collected_headers \${CMAKE_CURRENT_LIST_DIR} DIRECTORY)
    set_target_properties($3 PROPERTIES INTERFACE_INCLUDE_DIRECTORIES \${collected_headers})
    unset(collected_headers)
endif()
EOF_CONFIG
    cat >"$to/cmake/$1ConfigVersion.cmake" <<EOF_VERSION
set(PACKAGE_VERSION $2)
if(NOT PACKAGE_FIND_VERSION VERSION_GREATER PACKAGE_VERSION)
    set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
EOF_VERSION
}
version_of() { dpkg-query -W -f='${Version}' "$1" | sed 's/^[0-9]*://; s/[^0-9.].*//'; }
package Catch2 "$(version_of catch2)" Catch2::Catch2
package Eigen3 "$(version_of libeigen3-dev)" Eigen3::Eigen
package nlohmann_json "$(version_of nlohmann-json3-dev)" nlohmann_json::nlohmann_json
package CLI11 "$(version_of libcli11-dev)" CLI11::CLI11

# Nothing may be missing: what is not found there would come from the system.
{
    g++ -std=c++20 -fsyntax-only -H -Iinclude -Ibackends/include -I"$to" "$all" 2>&1
    g++ -std=c++20 -M -Iinclude -Ibackends/include -Itests -Iexamples/decoder/src -I"$to" \
        $(find examples/decoder/src -name '*.cpp') | tr -s ' \\' '\n\n'
} | grep -oE '/usr/include/(boost|eigen3|CLI|nlohmann|hwy|catch2)/[^ ]*' | sort -u >"$to/.missing" || true
if [ -s "$to/.missing" ]; then
    echo "These headers were not collected:" >&2
    cat "$to/.missing" >&2
    exit 1
fi
rm -f "$to/.missing"
echo "$to: $(find "$to" -type f | wc -l) files, $(du -sm "$to" | cut -f1) MiB"
