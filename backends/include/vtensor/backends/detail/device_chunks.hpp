// SPDX-License-Identifier: Apache-2.0
//
// The chunks of a device backend under handles that never become valid again once destroyed. It counts the
// mappings of each: the driver's handle is kept until the last one goes, so that an unmapping that fails
// half-way can be undone, and because some drivers lose a handle that is released while mapped
// (ROCR-Runtime#257). What the driver does not take back is kept and offered again. Not locked.
#pragma once

#include <vtensor/backends/detail/device_native.hpp>
#include <vtensor/core/error.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

namespace vtensor::detail {

/// O(1) a call, but for what the driver costs.
template <class Api>
class device_chunks {
  public:
    using native_type = device_native<Api>;
    using pieces = typename native_type::pieces;

    explicit device_chunks(native_type& native) noexcept : native_{native} {}
    device_chunks(const device_chunks&) = delete;
    device_chunks& operator=(const device_chunks&) = delete;

    /// A new chunk. `native` gets the driver's code where it is the driver that refuses.
    [[nodiscard]] result<device_chunk> create(bytes size, int& native) noexcept {
        offer_again();
        pieces made;
        if (!make_room() || !reserve(made, native_.plain() ? 0 : native_.pieces_of(size)))
            return error{errc::out_of_memory, verb::create, 0, size};
        native = native_.create(size, made);
        if (native == 0)
            return enter(size, std::move(made));
        if (!made.empty())
            keep_orphan(size, std::move(made));
        return error{errc::native_failure, verb::create, native, size};
    }

    /// A chunk over memory that is there already, and that is given back by its destruction. `acquire` is
    /// called when nothing else can fail; it returns 0 or a code, and fills in the handle: with a code only
    /// where it could not give the memory back.
    template <class Acquire>
    [[nodiscard]] result<device_chunk> adopt(bytes size, int& native, Acquire acquire) noexcept {
        pieces made;
        if (!make_room() || !reserve(made, 1))
            return error{errc::out_of_memory, verb::import_chunk, 0, size};
        typename Api::handle_type handle{};
        native = acquire(handle);
        if (handle != typename Api::handle_type{})
            made.push_back(handle);
        if (native != 0) {
            if (!made.empty())
                keep_orphan(size, std::move(made));
            return error{errc::native_failure, verb::import_chunk, native, size};
        }
        return enter(size, std::move(made));
    }

    /// The size of a chunk that was created and not destroyed; 0 for any other handle.
    [[nodiscard]] bytes size_of(device_chunk chunk) const noexcept {
        if (chunk.index >= entries_.size())
            return bytes{0};
        const entry& found = entries_[chunk.index];
        const bool valid = found.alive && !found.given_up && found.generation == chunk.generation;
        return valid ? found.size : bytes{0};
    }

    /// 0, and the handle is invalid and the memory goes with the last mapping; or the driver's code, and
    /// nothing has changed.
    int destroy(device_chunk chunk) noexcept {
        offer_again();
        entry& gone = entries_[chunk.index];
        if (gone.mappings != 0) {
            gone.given_up = true;
            return 0;
        }
        const std::size_t before = gone.chunk.size();
        const int failed = native_.destroy(gone.chunk);
        if (failed != 0 && gone.chunk.size() == before)
            return failed;
        gone.given_up = true;
        if (failed == 0)
            recycle(chunk.index);
        else
            ++orphans_; // some pieces have gone: the rest is no chunk any more
        return 0;
    }

    [[nodiscard]] std::span<const typename Api::handle_type> handles(std::uint32_t index) const noexcept {
        return entries_[index].chunk;
    }
    [[nodiscard]] std::size_t mappings(std::uint32_t index) const noexcept {
        return entries_[index].mappings;
    }
    void add_mapping(std::uint32_t index) noexcept { ++entries_[index].mappings; }
    void drop_mapping(std::uint32_t index) noexcept {
        entry& dropped = entries_[index];
        if (--dropped.mappings != 0 || !dropped.given_up)
            return;
        if (insist([&] { return native_.destroy(dropped.chunk); }) == 0)
            recycle(index);
        else
            ++orphans_;
    }

    /// Physical bytes that the driver has not taken back yet; in plain mode what was created.
    [[nodiscard]] bytes physical() const noexcept { return physical_; }
    /// Chunks that are gone for the caller and that the driver would not take back.
    [[nodiscard]] std::size_t orphans() const noexcept { return orphans_; }

    /// Gives everything back, mapped or not: nothing is mapped any more.
    void clear() noexcept {
        for (entry& each : entries_)
            static_cast<void>(insist([&] { return native_.destroy(each.chunk); }));
        entries_.clear();
        unused_.clear();
    }

  private:
    struct entry {
        pieces chunk{};
        bytes size{};
        std::size_t mappings = 0;
        std::uint32_t generation = 1;
        bool alive = false;
        bool given_up = false; ///< the caller's handle is invalid; alive: the driver still has it
    };

    static bool reserve(pieces& made, std::size_t count) noexcept {
        try {
            made.reserve(count);
        } catch (const std::bad_alloc&) {
            return false;
        } catch (const std::length_error&) {
            return false;
        }
        return true;
    }

    /// Afterwards `unused_` has an entry, and room for every entry there is.
    bool make_room() noexcept {
        if (!unused_.empty())
            return true;
        try {
            if (entries_.size() == entries_.capacity()) {
                const std::size_t capacity = std::max<std::size_t>(64, 2 * entries_.capacity());
                unused_.reserve(capacity); // first: giving a chunk back must never allocate
                entries_.reserve(capacity);
            }
            entries_.emplace_back();
        } catch (const std::bad_alloc&) {
            return false;
        }
        unused_.push_back(static_cast<std::uint32_t>(entries_.size() - 1));
        return true;
    }

    entry& take_entry() noexcept {
        entry& taken = entries_[unused_.back()];
        unused_.pop_back();
        taken.alive = true;
        taken.given_up = false;
        return taken;
    }
    device_chunk enter(bytes size, pieces&& made) noexcept {
        const std::uint32_t index = unused_.back();
        entry& taken = take_entry();
        taken.chunk = std::move(made);
        taken.size = size;
        physical_ += size;
        return device_chunk{index, taken.generation};
    }

    /// What an undo could not give back is offered again later.
    void keep_orphan(bytes size, pieces&& left) noexcept {
        const device_chunk kept = enter(size, std::move(left));
        entries_[kept.index].given_up = true;
        ++orphans_;
    }

    void recycle(std::uint32_t index) noexcept {
        entry& gone = entries_[index];
        gone.chunk = pieces{};
        physical_ -= gone.size;
        gone.size = bytes{0};
        gone.alive = false;
        if (++gone.generation != 0) // a handle of every generation was given out: never use the entry again
            unused_.push_back(index);
    }

    void offer_again() noexcept {
        for (std::size_t index = 0; orphans_ != 0 && index < entries_.size(); ++index) {
            entry& candidate = entries_[index];
            if (!candidate.alive || !candidate.given_up || candidate.mappings != 0)
                continue;
            if (native_.destroy(candidate.chunk) != 0)
                return;
            --orphans_;
            recycle(static_cast<std::uint32_t>(index));
        }
    }

    native_type& native_;
    std::vector<entry> entries_;
    std::vector<std::uint32_t> unused_;
    bytes physical_{};
    std::size_t orphans_ = 0;
};

} // namespace vtensor::detail
