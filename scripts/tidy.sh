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
#include <array>
#include <chrono>
#include <iostream>
#include <utility>
// Uses, so that the templates are instantiated.
using namespace vtensor;
void use_exact(chunk_pool<host_backend>& pool) {
    virtual_tensor<float, host_backend, growth::geometric<3, 2>> tensor{pool, {2, 64}, 1024};
    tensor.append(3);
    tensor.prepare(100);
    tensor.trim();
    tensor.resize(1);
    auto forked = tensor.fork(sharing::within{100, sharing::by_cost{}});
    forked.make_writable(0, 1);
    forked.resize(0);
    forked.share_prefix_of(tensor, 1);
    std::cout << forked.shared_bytes().count();
}
void use_look_ahead(chunk_pool<host_backend, std::mutex>& pool, mapper& thread) {
    virtual_tensor<float16, host_backend, growth::look_ahead<4>> tensor{pool, thread, {2, 64}, 1024};
    tensor.append(3);
    tensor.trim();
    throw_if_failed(tensor.look_ahead_status());
}
void use_eviction(chunk_pool<host_backend>& pool, std::span<const eviction::layer_evidence> shown,
                  std::span<attention::kv_head<float16>> heads) {
    using evicting = virtual_tensor<float16, host_backend, growth::exact, eviction::by_caller>;
    evicting keys{pool, {128}, 1024};
    evicting values{pool, {128}, 1024};
    eviction::kept_rows kept;
    eviction::workspace room;
    throw_if_failed(eviction::layer_defensive_kv<>{}.choose(shown, room, kept));
    throw_if_failed(eviction::lazy<>{}.choose(shown, room, kept));
    tensor_group both{keys, values};
    both.evict(kept.of(0, 0));
    both.defragment(defrag::hybrid{measure_costs(pool)});
    auto packed = kv::packed_cache<float16, host_backend>::try_create(pool, {2, 64, 64, 100}).value();
    auto shared = kv::per_layer_cache<float16, host_backend>::try_create(pool, {2, 64, 64, 100}).value();
    auto apart = kv::per_head_cache<float16, host_backend>::try_create(pool, {2, 64, 64, 100}).value();
    std::array<defrag::plan, 2> plans;
    const auto use = [&](auto& cache) {
        throw_if_failed(cache.try_append(3));
        throw_if_failed(cache.describe(heads));
        throw_if_failed(cache.try_evict(kept, 0));
        throw_if_failed(cache.try_defragment(defrag::incremental<4096>{}, plans));
        cache.remove_last(1);
        std::cout << cache.figures().rows << cache.keys(0).size() << cache.values(0).size() << cache.verify();
    };
    use(packed);
    use(shared);
    use(apart);
    ring_tensor<float16, host_backend> ring{pool, {128}, 1024};
    std::cout << ring.append(3).size();
}
template <class Backend>
void use_device(chunk_pool<Backend>& pool, typename Backend::stream_type stream) {
    virtual_tensor<float16, Backend> tensor{pool, {2, 64}, 1024};
    tensor.append(3);
    tensor.resize(1, stream);
    tensor.append(1, stream);
    auto forked = tensor.fork(sharing::map_all{}, stream);
    forked.make_writable(0, 1, stream);
    tensor.trim(stream);
    tensor.retire(stream);
    throw_if_failed(pool.retiring().wait_oldest().status());
    throw_if_failed(pool.retiring().drain());
    throw_if_failed(pool.backend().set_peer_access(address{}, pool.chunk_size(), access_mode::read, 1));
    const auto chunk = pool.backend().create(pool.chunk_size()).value();
    auto handle = pool.backend().export_chunk(chunk).value();
    throw_if_failed(pool.backend().import_chunk(std::move(handle), pool.chunk_size()).status());
}
void use_devices(unix_socket& other) {
    cuda_backend cuda{{.device = 0}};
    hip_backend hip{{.device = 0}};
    chunk_pool<cuda_backend> on_cuda{cuda};
    chunk_pool<hip_backend> on_hip{hip};
    use_device(on_cuda, nullptr);
    use_device(on_hip, nullptr);
    std::array<device_chunk, 2> chunks{};
    const auto soon = within(std::chrono::seconds{1});
    throw_if_failed(interop::send_chunks<cuda_backend>(other, cuda, chunks, cuda.granularity(), soon));
    throw_if_failed(
        interop::receive_chunks<hip_backend>(other, hip, chunks, hip.granularity(), soon).status());
    std::cout << probe_chunk_size(cuda, cuda.granularity(), 0.125).value().count();
}
EOF_USE
clang-tidy --quiet --warnings-as-errors='*' "$all" -- -std=c++20 -Iinclude -Ibackends/include -march=x86-64-v3
