// SPDX-License-Identifier: Apache-2.0
//
// What lies under the KV cache: the host's memory, a CUDA device's, or a simulated one's. Only the start and
// the end of a run ask for it; in between the cache knows its backend by type.
#pragma once

#include "model/evicting_cache.hpp"
#include "model/kv_cache.hpp"
#include "model/managed_sequences.hpp"

#include <vtensor/core/units.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace decoder {

enum class memory_kind : std::uint8_t { host, cuda, cuda_sim };

/// What the memory underneath says of itself.
struct memory_facts {
    std::string description; ///< the backend's own: one line or several
    std::string huge_pages;  ///< whether they were granted, and why not; empty on a device
    std::string counted_by;  ///< "kernel" or "driver": who counts `physical`
    std::string counted_how;
    std::optional<vtensor::bytes> physical; ///< of the cache; nothing where it cannot be told
};

class kv_memory {
  public:
    kv_memory() = default;
    kv_memory(const kv_memory&) = delete;
    kv_memory& operator=(const kv_memory&) = delete;
    virtual ~kv_memory() = default;

    [[nodiscard]] virtual vtensor::bytes granularity() const noexcept = 0;
    /// The memory must outlive the cache. Throws as `decoder::make_kv_cache`.
    [[nodiscard]] virtual std::unique_ptr<kv_cache> make_cache(const kv_shape& shape,
                                                               const kv_options& options) = 0;
    /// The same with an eviction policy. `input_error` where this memory has none.
    [[nodiscard]] virtual std::unique_ptr<kv_cache>
    make_evicting_cache(const kv_shape& shape, const kv_options& options, eviction_options&& eviction);
    /// Many sequences under a manager. `input_error` where this memory has none.
    [[nodiscard]] virtual std::unique_ptr<managed_sequences> make_sequences(const kv_shape& shape,
                                                                            const kv_options& options);
    /// Takes some microseconds; not for a loop.
    [[nodiscard]] virtual memory_facts facts() = 0;
};

/// `input_error` with the backend's own sentence where there is no such device.
[[nodiscard]] std::unique_ptr<kv_memory> open_memory(memory_kind kind, bool huge_pages);

/// A CUDA device, or a simulated one: no GPU, but everything else that the former needs.
[[nodiscard]] std::unique_ptr<kv_memory> open_cuda_memory();
[[nodiscard]] std::unique_ptr<kv_memory> open_simulated_cuda_memory();

} // namespace decoder
