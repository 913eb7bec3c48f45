#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Proves the CUDA backend on the GPU of this machine, which needs nvcc, cmake and a C++ compiler, and no network: the
# contract, retiring, two processes, several contexts, leaks, the decoder, a memory checker, the benchmark, the probe.
# Writes docs/results/gpu-<name>-<date>.md and .json, ready to commit. A part that fails is recorded and the next one
# runs. Third-party headers come from third_party_headers/ (scripts/collect-headers.sh fills it where packages are), or
# from the system. docs/gpu-check.md says more.
#
# Usage: scripts/gpu-check.sh [--results FOLDER] [--build FOLDER] [--name NAME] [--revision TEXT] [--minutes N]
#                             [--jobs N] [--arch N] [--no-device]
#   --no-device   builds everything and sees that each program says that there is no device (it must not find one)
# Exit code: 0 all passed · 1 something failed or could not be run · 2 usage, or nothing to build with · 77 no device
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

results=docs/results build=build/gpu-check name= revision= minutes=8 jobs=$(nproc) arch= device=yes
while [ $# -gt 0 ]; do
    case $1 in
    --results | --build | --name | --revision | --minutes | --jobs | --arch)
        [ $# -ge 2 ] || { echo "gpu-check: $1 needs a value" >&2; exit 2; }
        declare "${1#--}=$2"
        shift 2
        ;;
    --no-device) device=no; shift ;;
    *) sed -n 's/^# \{0,1\}//;/^Usage/,/^Exit/p' "$0" >&2; exit 2 ;;
    esac
done

# ---- what there is ----

begun=$SECONDS
deadline=$((minutes * 60 - 15)) # a moment for the report
left() { echo $((deadline - (SECONDS - begun))); }

PATH=$PATH:/usr/local/cuda/bin:/usr/local/nvidia/bin:/opt/nvidia/compute-sanitizer:/usr/local/cuda/compute-sanitizer
for tool in nvcc cmake; do
    command -v "$tool" >/dev/null || { echo "gpu-check: there is no $tool on this machine" >&2; exit 2; }
done
command -v "${CXX:-c++}" g++ clang++ >/dev/null || { echo "gpu-check: there is no C++ compiler on this machine" >&2; exit 2; }
gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)
driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1)
[ -n "$arch" ] || arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d .)
[ -n "$arch" ] || arch="80;90"
if [ "$device" = no ]; then
    gpu="no device" driver=none
fi
if [ -z "$revision" ]; then
    revision=$(git rev-parse --short HEAD 2>/dev/null) || revision=unknown
    [ "$revision" = unknown ] || git diff --quiet HEAD 2>/dev/null || revision="$revision with changes"
fi
mkdir -p "$results" "$build" || exit 2
logs=$build/logs
rm -rf "$logs"
mkdir -p "$logs"
echo "${gpu:-unknown GPU}, driver ${driver:-unknown}, compiled for $arch, revision $revision"

# ---- parts: each a name, a time limit and a command; what it prints is kept ----

parts=() outcomes=() seconds=() details=()
failures=0
# record NAME OUTCOME SECONDS DETAIL
record() {
    parts+=("$1") outcomes+=("$2") seconds+=("$3") details+=("$4")
    printf '%-22s %-8s %4s s  %s\n' "$1" "$2" "$3" "$4"
    case $2 in passed | skipped) ;; *) failures=$((failures + 1)) ;; esac
}
# run NAME LIMIT COMMAND...: 0 passed, 77 skipped, which is a failure where a device is expected.
run() {
    local part=$1 limit=$2 start=$SECONDS code detail outcome
    shift 2
    [ "$limit" -le "$(left)" ] || limit=$(left)
    if [ "$limit" -lt 5 ]; then
        record "$part" "not run" 0 "the time was up"
        return 1
    fi
    timeout --kill-after=5 "$limit" "$@" >"$logs/$part.log" 2>&1 </dev/null
    code=$?
    detail=$(grep -E '^(All tests passed|test cases:|skipped:|bench_vmm(:| on )|vtensor-decoder:|There is no CUDA|[0-9]+ (rows|experiments)|=+ ERROR SUMMARY)' "$logs/$part.log" | tail -n 1)
    case $code in
    0) outcome=passed ;;
    77) outcome=skipped ;;
    124 | 137) outcome=failed detail="stopped after $limit s" ;;
    *) outcome=failed detail="exit code $code${detail:+: $detail}" ;;
    esac
    if [ "$device" = no ] && [ "$outcome" = passed ]; then
        outcome=failed detail="it found a device where none was expected"
    elif [ "$device" = yes ] && [ "$outcome" = skipped ] && [ "$part" != two_process ]; then
        outcome=failed detail="skipped: $detail"
    fi
    record "$part" "$outcome" "$((SECONDS - start))" "$detail"
    [ "$outcome" = passed ]
}

# ---- build ----

options=(-DCMAKE_BUILD_TYPE=Release -DCMAKE_CUDA_ARCHITECTURES="$arch" "-DVTENSOR_TEST_ROOMS=conformance;device;gpu"
    -DVTENSOR_BENCHES=vmm -DVTENSOR_BUILD_EXAMPLES=ON -DVTENSOR_INSTALL=OFF -DVTENSOR_NATIVE=OFF -Wno-dev)
command -v ninja >/dev/null && options+=(-G Ninja)
headers=$PWD/third_party_headers
if [ -e "$headers/.collected" ]; then
    options+=(-DBoost_NO_BOOST_CMAKE=ON -DBoost_INCLUDE_DIR="$headers" -DVTENSOR_HIGHWAY_INCLUDE_DIR="$headers")
    for package in Catch2 Eigen3 nlohmann_json CLI11; do options+=("-D${package}_DIR=$headers/cmake"); done
fi
programs=(test_conformance_cuda test_device_cuda test_gpu_retire test_gpu_leak test_gpu_contexts test_gpu_two_process gpu_peer
    gpu_append_kernel vtensor-decoder bench_vmm vmm_probe)
start=$SECONDS
echo "building with $jobs jobs ..."
if ! cmake -S . -B "$build" "${options[@]}" >"$logs/configure.log" 2>&1; then
    tail -n 30 "$logs/configure.log" >&2
    echo "gpu-check: cmake cannot configure; no Boost or Catch2? Run scripts/collect-headers.sh where they are" >&2
    exit 2
fi
keep_going=(-k)
grep -q '^CMAKE_GENERATOR:.*Ninja' "$build/CMakeCache.txt" && keep_going=(-k 0)
timeout --kill-after=5 "$(left)" cmake --build "$build" -j "$jobs" --target "${programs[@]}" -- "${keep_going[@]}" \
    >"$logs/build.log" 2>&1
code=$?
if [ $code -eq 0 ]; then
    record build passed $((SECONDS - start)) "${#programs[@]} programs"
else
    record build failed $((SECONDS - start)) "$(grep -cE '^FAILED|Error [0-9]' "$logs/build.log") steps failed, exit code $code"
    grep -m 5 -A 3 -E 'error|FAILED' "$logs/build.log" >&2
fi

# ---- check ----

# The same tokens with the cache on the device as on the host.
decode_on_both='
    text=(--model examples/decoder/model --prompt "And it came to pass in those days, that" --max-tokens 1200 --kv-type f32)
    tokens() { tr -d " \n" <"$1" | grep -o "\"tokens\":\[[0-9,]*\]"; }
    "$1" "${text[@]}" --backend cuda --page-bytes 2MiB --json "$2/decoder-cuda.json" || {
        code=$?
        [ $code -eq 2 ] && code=77
        exit $code
    }
    "$1" "${text[@]}" --backend host --json "$2/decoder-host.json" || exit
    count=$(tokens "$2/decoder-cuda.json" | tr -cd , | wc -c)
    echo "$((count + 1)) rows of tokens on the device, compared with those on the host"
    [ "$count" -gt 100 ] && [ "$(tokens "$2/decoder-cuda.json")" = "$(tokens "$2/decoder-host.json")" ]'

bin=$PWD/$build
case $build in /*) bin=$build ;; esac
export VTENSOR_REQUIRE_DEVICE=1
[ "$device" = yes ] || unset VTENSOR_REQUIRE_DEVICE
if [ "$device" = yes ] && [ -x "$bin/bench/vmm_probe" ]; then
    timeout --kill-after=5 60 "$bin/bench/vmm_probe" --run device >"$logs/device.log" 2>&1 </dev/null
    if [ $? -eq 77 ]; then
        cat "$logs/device.log"
        echo "gpu-check: there is no CUDA device here (--no-device checks the rest)" >&2
        exit 77
    fi
    # Where there is no nvidia-smi: "  NVIDIA H200 (9.0), 140GiB, CUDA driver 13.0, ..."
    told=$(grep -m 1 'CUDA driver' "$logs/device.log")
    [ -n "$gpu" ] || gpu=$(printf '%s' "$told" | sed 's/^ *//; s/ (.*//')
    [ -n "$driver" ] || driver=$(printf '%s' "$told" | grep -o 'CUDA driver [0-9.]*')
fi
[ -n "$gpu" ] || gpu="unknown GPU"
[ -n "$name" ] || name=$(echo "${gpu#NVIDIA }" | tr 'A-Z ' 'a-z-' | tr -cd 'a-z0-9-')
out=$results/gpu-$name-$(date -u +%Y-%m-%d)
run conformance 100 "$bin/tests/conformance/test_conformance_cuda"
run device 60 "$bin/tests/device/test_device_cuda"
run retire 60 "$bin/tests/gpu/test_gpu_retire"
run contexts 45 "$bin/tests/gpu/test_gpu_contexts"
run two_process 80 "$bin/tests/gpu/test_gpu_two_process"
run leak 90 "$bin/tests/gpu/test_gpu_leak"
run append_kernel 30 "$bin/tests/gpu/gpu_append_kernel"
run decoder 60 bash -c "$decode_on_both" decoder "$bin/examples/decoder/vtensor-decoder" "$logs"
if [ "$device" = no ]; then
    record memory_checker skipped 0 "without a device"
elif ! command -v compute-sanitizer >/dev/null; then
    record memory_checker "not run" 0 "there is no compute-sanitizer on this machine"
else
    # Memory alone: a backend tries what a driver may refuse, and a refusal is no error. Some virtual machines keep such
    # tools from the device, which says nothing about the library.
    checker=(compute-sanitizer --tool memcheck --report-api-errors no --error-exitcode 9)
    start=$SECONDS
    timeout --kill-after=5 45 "${checker[@]}" "$bin/tests/gpu/gpu_append_kernel" --beyond \
        >"$logs/planted_error.log" 2>&1 </dev/null
    took=$((SECONDS - start))
    if grep -qi 'device not supported' "$logs/planted_error.log"; then
        record memory_checker "not run" $took "compute-sanitizer says that it does not support this device here"
    else
        run memory_checker 60 "${checker[@]}" "$bin/tests/gpu/gpu_append_kernel"
        # Only what notices a planted error proves anything.
        if grep -q 'Invalid __global__ read' "$logs/planted_error.log"; then
            record planted_error passed $took "$(grep -m 1 -oE 'Invalid __global__ read[^=]*' "$logs/planted_error.log")"
        else
            record planted_error failed $took "the checker did not notice a read beyond the mapped pages"
        fi
    fi
fi
# The benchmark before the probe, whose last experiment takes what time is left. It writes its records at its end, so it
# is told how long it may take.
run bench_vmm 90 "$bin/bench/bench_vmm" --json "$logs/bench_vmm.json"
total=$(($(left) - 15))
[ "$total" -le 170 ] || total=170
run vmm_probe 185 "$bin/bench/vmm_probe" --total "$total" --json "$logs/vmm_probe.json"

# ---- report ----

quote() { printf '"%s"' "$(printf '%s' "$1" | tr '\t\n' '  ' | sed 's/\\/\\\\/g; s/"/\\"/g')"; }
{
    printf '{"check": "gpu", "gpu": %s, "driver": %s, "date": %s, "revision": %s, "nvcc": %s, "seconds": %d,\n' \
        "$(quote "$gpu")" "$(quote "$driver")" "$(quote "$(date -u +%Y-%m-%dT%H:%MZ)")" "$(quote "$revision")" \
        "$(quote "$(nvcc --version | grep -o 'V[0-9.]*' | tail -n 1)")" $((SECONDS - begun))
    printf ' "parts": ['
    separator=$'\n  '
    for index in "${!parts[@]}"; do
        printf '%s{"part": %s, "outcome": %s, "seconds": %d, "detail": %s}' "$separator" "$(quote "${parts[index]}")" \
            "$(quote "${outcomes[index]}")" "${seconds[index]}" "$(quote "${details[index]}")"
        separator=$',\n  '
    done
    printf '\n ]'
    for bench in bench_vmm vmm_probe; do
        printf ',\n "%s": ' "$bench"
        if [ -s "$logs/$bench.json" ]; then cat "$logs/$bench.json"; else echo null; fi
    done
    printf '}\n'
} >"$out.json"
{
    echo "# GPU check: $gpu, $(date -u +%Y-%m-%d)"
    echo
    echo "Written by \`scripts/gpu-check.sh\` at revision $revision: driver ${driver:-none}, nvcc $(nvcc --version | grep -o 'V[0-9.]*' | tail -n 1), compiled for $arch, $((SECONDS - begun)) s."
    if [ "$device" = no ]; then
        echo
        echo "Nothing here was seen on a device: \`--no-device\` checks that everything builds and says that there is none."
    fi
    echo
    echo "| part | outcome | s | detail |"
    echo "| --- | --- | --- | --- |"
    for index in "${!parts[@]}"; do
        echo "| ${parts[index]} | ${outcomes[index]} | ${seconds[index]} | ${details[index]//|/\\|} |"
    done
    for part in bench_vmm vmm_probe; do
        echo
        echo "## $part"
        echo
        echo '```'
        cat "$logs/$part.log" 2>/dev/null
        echo '```'
    done
    for index in "${!parts[@]}"; do
        part=${parts[index]}
        [ "${outcomes[index]}" = failed ] && [ -s "$logs/$part.log" ] || continue
        case $part in bench_vmm | vmm_probe) continue ;; esac
        echo
        echo "## What $part said last"
        echo
        echo '```'
        tail -n 60 "$logs/$part.log"
        echo '```'
    done
} >"$out.md"
echo "$failures of ${#parts[@]} parts failed; written: $out.md and .json, after $((SECONDS - begun)) s; logs: $logs"
[ "$failures" -eq 0 ]
