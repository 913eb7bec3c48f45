// SPDX-License-Identifier: Apache-2.0
//
// The KV cache as the model sees it: a K and a V tensor a layer, [tokens, kv heads, head dimension], that
// grow together. Element type, backend and growth policy are template arguments of the virtual tensors behind
// it; this interface hides them, so that the rest of the decoder is compiled once. Computes nothing.
#pragma once

#include <vtensor/attention/problem.hpp>
#include <vtensor/core/concepts.hpp>
#include <vtensor/core/element.hpp>
#include <vtensor/core/error.hpp>
#include <vtensor/core/units.hpp>
#include <vtensor/view.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <variant>
#include <vector>

namespace decoder {

class thread_pool;

/// What keys and values are stored as; arithmetic is float32 in any case.
enum class kv_type : std::uint8_t { f32, f16, bf16 };

/// How the tensors grow: see vtensor/policy/growth.hpp.
enum class kv_growth : std::uint8_t { exact, fixed, geometric, look_ahead };

/// The sizes that the model dictates.
struct kv_shape {
    std::size_t layers = 0;
    std::size_t kv_heads = 0;
    std::size_t head_dim = 0;
    std::size_t max_rows = 0; ///< the longest sequence; addresses are reserved for it
};

/// What the user may choose.
struct kv_options {
    kv_type type = kv_type::f16;
    kv_growth growth = kv_growth::exact;
    vtensor::bytes page{};  ///< the pool's chunk size; 0 takes the backend's granularity
    vtensor::bytes limit{}; ///< the most physical memory; 0 sets none
};

/// What an eviction policy did.
struct eviction_figures {
    /// Rows of a layer's KV heads that queries still see.
    struct layer_rows {
        std::size_t least = 0;
        std::size_t median = 0;
        std::size_t most = 0;
    };
    /// Physical memory at one moment, by the library's count and by the kernel's.
    struct memory {
        vtensor::bytes mapped{};
        std::optional<vtensor::bytes> physical{};
    };

    std::size_t evictions = 0;
    std::vector<layer_rows> kept{};
    memory before{}; ///< the first eviction
    memory after{};
    double choosing_seconds = 0; ///< evidence, scores and selection, of all evictions
    double moving_seconds = 0;   ///< defragmentation
};

/// The cache in figures.
struct kv_figures {
    vtensor::bytes reserved{}; ///< addresses
    vtensor::bytes mapped{};   ///< physical memory behind them
    vtensor::bytes used{};     ///< what the rows occupy
    vtensor::bytes peak{};     ///< the most physical memory that was ever held at once
    vtensor::bytes row{};      ///< one token: K and V of all layers
    vtensor::bytes page{};
    std::size_t rows = 0;
    std::optional<eviction_figures> evicted{}; ///< where the cache has an eviction policy
};

/// K and V of one layer as attention reads them, one entry a KV head, in the type they are stored as.
using kv_heads = std::variant<std::span<const vtensor::attention::kv_head<float>>,
                              std::span<const vtensor::attention::kv_head<vtensor::float16>>,
                              std::span<const vtensor::attention::kv_head<vtensor::bfloat16>>>;

class kv_cache {
  public:
    kv_cache() = default;
    kv_cache(const kv_cache&) = delete;
    kv_cache& operator=(const kv_cache&) = delete;
    virtual ~kv_cache() = default;

    /// Tokens that were fed, evicted ones included: the position of the next one.
    [[nodiscard]] virtual std::size_t rows() const noexcept = 0;

    /// Makes all tensors `rows` long, or leaves all of them as they were: length, content and memory. When
    /// memory is short, what growth policies hold beyond the rows is given up first.
    [[nodiscard]] virtual vtensor::status try_grow(std::size_t rows) noexcept = 0;

    /// Takes back what the last successful growth added: length and memory are as before it.
    virtual void undo_growth() noexcept = 0;

    /// Forgets all tokens from `rows` on. Cannot fail: memory that the backend does not unmap stays mapped,
    /// and is used when the cache grows again.
    virtual void truncate(std::size_t rows) noexcept = 0;

    /// Writes K and V of one layer in the type they are stored as, from row `first` on: [n, kv heads, head
    /// dimension] floats each, for rows that there are. After a failure those rows hold anything.
    [[nodiscard]] virtual vtensor::status try_store(std::size_t layer, std::size_t first,
                                                    std::span<const float> keys,
                                                    std::span<const float> values) noexcept = 0;

    /// The rows there are, for the processor to read. Valid until anything else is called that may change the
    /// cache, or until another layer is read.
    [[nodiscard]] virtual vtensor::result<kv_heads> try_read(std::size_t layer) noexcept = 0;

    /// Where attention over a layer leaves its probabilities: [query head, W, row], of the last W of `count`
    /// queries; `data` is null where the cache does not want them. Asked between `try_read` and the
    /// attention.
    [[nodiscard]] virtual vtensor::result<vtensor::tensor_view<float, 3>>
    try_watch(std::size_t /*layer*/, std::size_t /*count*/) noexcept {
        return vtensor::tensor_view<float, 3>{};
    }
    /// The attention over a layer is done, and its probabilities are there.
    [[nodiscard]] virtual vtensor::status try_note(std::size_t /*layer*/, thread_pool& /*threads*/) noexcept {
        return {};
    }
    /// After a step: a cache with an eviction policy may give rows up. `ended_prompt`: it was the last of it.
    [[nodiscard]] virtual vtensor::status try_evict(bool /*ended_prompt*/,
                                                    thread_pool& /*threads*/) noexcept {
        return {};
    }
    /// How many of the last tokens of a prompt it wants to see in one step.
    [[nodiscard]] virtual std::size_t observed_queries() const noexcept { return 0; }

    /// Waits for the mapper thread where there is one, and unmaps what retires and may go, so that the
    /// figures are of one moment.
    [[nodiscard]] virtual kv_figures figures() noexcept = 0;

    /// Checks the book-keeping of pool and tensors, O(pages).
    [[nodiscard]] virtual bool verify() const noexcept = 0;
};

/// Bytes of one element.
[[nodiscard]] std::size_t size_of(kv_type type) noexcept;

/// Physical memory that a cache of `rows` tokens needs at the least: whole pages, tensor by tensor.
[[nodiscard]] vtensor::bytes memory_for(const kv_shape& shape, kv_type type, vtensor::bytes page,
                                        std::size_t rows) noexcept;

/// A cache on the backend's memory; defined for `vtensor::host_backend` and `vtensor::cuda_backend`. The
/// backend must outlive it. Throws what `vtensor::chunk_pool` and `vtensor::virtual_tensor` throw.
template <vtensor::backend Backend>
[[nodiscard]] std::unique_ptr<kv_cache> make_kv_cache(Backend& backend, const kv_shape& shape,
                                                      const kv_options& options);

} // namespace decoder
