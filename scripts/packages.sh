# SPDX-License-Identifier: Apache-2.0
# Sourced by the other scripts: installs the Debian packages that are missing, or names them.

# need_packages PACKAGE...: returns when all are installed; otherwise says what to do and exits with 2.
need_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0

    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
            as_root=(sudo -n)
        else
            echo "These Debian packages are missing: ${missing[*]}" >&2
            echo "Install them, then run this again:  sudo apt-get install ${missing[*]}" >&2
            exit 2
        fi
    fi
    echo "Installing: ${missing[*]}"
    local log
    log=$(mktemp)
    if ! { "${as_root[@]}" apt-get update -qq && DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq \
        --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
        cat "$log" >&2
        echo "Could not install: ${missing[*]} (see above)" >&2
        exit 2
    fi
    rm -f "$log"
}

# What it takes to build the library's programs, and what the tests take beyond that.
build_packages=(g++ cmake ninja-build libboost-dev libhwy-dev libeigen3-dev nlohmann-json3-dev libcli11-dev)
test_packages=("${build_packages[@]}" catch2 python3)

# A compiler cache is used where there is one; it is never needed.
launcher_options=()
if command -v ccache >/dev/null; then
    launcher_options=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
    export CCACHE_BASEDIR="$PWD" CCACHE_NOHASHDIR=1 # another checkout of the same files is the same
fi
