// SPDX-License-Identifier: Apache-2.0
//
// How a cache reaches its rows where the processor may not touch them: by copies on a stream. New rows go up;
// for attention, which here is the processor's, all rows of a layer come down. That shows the memory at work,
// not its speed: an engine attends on the device and copies nothing.
#pragma once

#include "model/host_rows.hpp"
#include "model/kv_cache.hpp"

#include <vtensor/core/concepts.hpp>
#include <vtensor/core/error.hpp>
#include <vtensor/core/units.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>
#include <span>

namespace decoder {

/// Uses the default stream, and waits for nothing but an event on it. One buffer of the host serves all
/// layers, one after the other.
template <class T, vtensor::stream_ordered_backend Backend>
class device_rows {
  public:
    static constexpr bool wait_for_retiring = true;

    /// Throws where the backend has no event left.
    device_rows(Backend& backend, const kv_shape& shape)
        : backend_{backend},
          event_{backend.create_event().value()},
          row_{shape.kv_heads * shape.head_dim},
          max_rows_{shape.max_rows} {}
    device_rows(const device_rows&) = delete;
    device_rows& operator=(const device_rows&) = delete;
    ~device_rows() {
        if (!try_finish() && !try_finish())
            static_cast<void>(buffer_.release()); // copies that nobody can wait for may still touch it
        if (!backend_.destroy_event(event_))
            static_cast<void>(backend_.destroy_event(event_));
    }

    // ---- rows ----

    /// Room in the buffer for that many rows of a layer.
    [[nodiscard]] vtensor::status try_make_room(std::size_t rows) noexcept {
        if (rows <= room_ || rows > max_rows_) // the tensors refuse what is too long
            return {};
        if (const vtensor::status outcome = try_finish(); !outcome)
            return outcome;
        const std::size_t room = std::min(max_rows_, std::max(rows, 2 * room_));
        std::unique_ptr<T[]> larger{new (std::nothrow) T[2 * room * row_]};
        if (larger == nullptr)
            return vtensor::error{vtensor::errc::out_of_memory, vtensor::verb::grow, 0, size_of(2 * room)};
        buffer_ = std::move(larger);
        room_ = room;
        return {};
    }

    /// Copies the new rows up. After a failure, what they hold is unspecified.
    [[nodiscard]] vtensor::status try_store(const layer_memory<T>& to, std::size_t first,
                                            std::span<const float> keys,
                                            std::span<const float> values) noexcept {
        if (const vtensor::status outcome = try_finish(); !outcome)
            return outcome;
        store(keys, keys_at(first));
        store(values, values_at(first));
        const vtensor::status outcome = copy(to.keys[first].data, keys_at(first), keys.size() / row_);
        return outcome ? copy(to.values[first].data, values_at(first), values.size() / row_) : outcome;
    }

    /// Copies all rows down and waits for them.
    [[nodiscard]] vtensor::result<layer_memory<T>> try_read(const layer_memory<T>& from) noexcept {
        vtensor::status outcome = copy(keys_at(0), from.keys.data, from.keys.extents[0]);
        if (outcome)
            outcome = copy(values_at(0), from.values.data, from.values.extents[0]);
        if (outcome)
            outcome = try_finish();
        if (!outcome)
            return outcome;
        layer_memory<T> here = from;
        here.keys.data = keys_at(0);
        here.values.data = values_at(0);
        return here;
    }

    // ---- giving memory up: behind the copies that are queued, without waiting for them ----

    template <class Tensor>
    [[nodiscard]] vtensor::status try_resize(Tensor& tensor, std::size_t rows) noexcept {
        return tensor.try_resize(rows, stream_);
    }
    template <class Tensor>
    [[nodiscard]] vtensor::status try_trim(Tensor& tensor) noexcept {
        return tensor.try_trim(stream_);
    }
    /// What to do before the tensor is destroyed.
    template <class Tensor>
    void retire(Tensor& tensor) noexcept {
        if (!tensor.try_retire(stream_))
            static_cast<void>(tensor.try_retire(stream_));
    }
    /// Unmaps what nothing queued touches any more. What fails stays queued for the next time.
    template <class Pool>
    void reclaim(Pool& pool) noexcept {
        static_cast<void>(pool.retiring().reclaim());
    }
    /// The same, and waits.
    template <class Pool>
    void drain(Pool& pool) noexcept {
        static_cast<void>(pool.retiring().drain());
    }

  private:
    using stream_type = typename Backend::stream_type;
    using event_type = typename Backend::event_type;

    [[nodiscard]] T* keys_at(std::size_t row) const noexcept { return buffer_.get() + row * row_; }
    [[nodiscard]] T* values_at(std::size_t row) const noexcept { return keys_at(room_ + row); }
    [[nodiscard]] vtensor::bytes size_of(std::size_t rows) const noexcept {
        return vtensor::bytes{rows * row_ * sizeof(T)};
    }

    vtensor::status copy(T* to, const T* from, std::size_t rows) noexcept {
        is_queued_ = true;
        return backend_.copy(vtensor::address{to}, vtensor::address{from}, size_of(rows), stream_);
    }
    /// No copy touches the buffer afterwards.
    vtensor::status try_finish() noexcept {
        if (!is_queued_)
            return {};
        vtensor::status outcome = backend_.record(event_, stream_);
        if (outcome)
            outcome = backend_.wait(event_);
        is_queued_ = !outcome;
        return outcome;
    }

    Backend& backend_;
    stream_type stream_{};
    event_type event_;
    std::size_t row_; ///< elements
    std::size_t max_rows_;
    std::size_t room_ = 0;        ///< rows of K, and as many of V behind them
    std::unique_ptr<T[]> buffer_; ///< of the host
    bool is_queued_ = false;
};

} // namespace decoder
