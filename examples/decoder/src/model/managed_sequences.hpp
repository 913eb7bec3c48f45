// SPDX-License-Identifier: Apache-2.0
//
// The library's manager of sequences (vtensor/kv/manager.hpp) for any element type, so that the scheduler
// above it is compiled once. It decides whose memory goes where; the scheduler decides which tokens run.
#pragma once

#include "model/kv_cache.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/kv/manager_stats.hpp>
#include <vtensor/kv/sequence.hpp>

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>

namespace decoder {

/// Every verb is that of `vtensor::kv::manager`.
class managed_sequences {
  public:
    using sequence_id = vtensor::kv::sequence_id;

    managed_sequences() = default;
    managed_sequences(const managed_sequences&) = delete;
    managed_sequences& operator=(const managed_sequences&) = delete;
    virtual ~managed_sequences() = default;

    [[nodiscard]] virtual vtensor::result<vtensor::kv::placed_sequence>
    try_create(std::span<const int> tokens, vtensor::kv::salt_id salt) noexcept = 0;
    [[nodiscard]] virtual vtensor::status
    try_extend(std::span<const vtensor::kv::extension> step) noexcept = 0;
    [[nodiscard]] virtual vtensor::status try_record(sequence_id id) noexcept = 0;
    [[nodiscard]] virtual vtensor::status try_release(sequence_id id) noexcept = 0;
    [[nodiscard]] virtual vtensor::result<sequence_id> try_fork(sequence_id id) noexcept = 0;
    [[nodiscard]] virtual vtensor::status try_preempt(sequence_id id) noexcept = 0;
    [[nodiscard]] virtual vtensor::result<vtensor::kv::placed_sequence>
    try_resume(sequence_id id) noexcept = 0;

    [[nodiscard]] virtual std::span<const int> tokens(sequence_id id) const noexcept = 0;
    /// Of the last call of a verb.
    [[nodiscard]] virtual std::span<const sequence_id> preempted() const noexcept = 0;

    /// The rows of a running sequence for the model, the first `computed` of which are written. Valid until a
    /// verb or `rows` is called again.
    [[nodiscard]] virtual kv_cache& rows(sequence_id id, std::size_t computed) = 0;

    [[nodiscard]] virtual vtensor::kv::manager_stats stats() const noexcept = 0;
    /// The kernel's count of the memory behind all sequences; nothing where it cannot be told.
    [[nodiscard]] virtual std::optional<vtensor::bytes> counted_by_kernel() const = 0;
    /// Checks the book-keeping, O(everything).
    [[nodiscard]] virtual bool verify() noexcept = 0;
};

/// Sequences on the host's memory. With `kv_growth::look_ahead` a mapper thread maps the pages of the next
/// steps; every other policy is taken as `exact`. The backend must outlive them. Throws what
/// `vtensor::chunk_pool`, `vtensor::mapper` and the manager throw.
[[nodiscard]] std::unique_ptr<managed_sequences>
make_managed_sequences(vtensor::host_backend& backend, const kv_shape& shape, const kv_options& options);

} // namespace decoder
