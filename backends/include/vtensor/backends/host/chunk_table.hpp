// SPDX-License-Identifier: Apache-2.0
//
// The chunks of a host backend: ranges of its memory file under handles that never become valid again once
// destroyed. It counts the mappings of each chunk, because memory lives until its last mapping goes. It maps
// nothing; not locked.
#pragma once

#include <vtensor/backends/host/memory_file.hpp>
#include <vtensor/core/error.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <utility>
#include <vector>

namespace vtensor {

/// A piece of physical memory of one `host_backend`. The default value is no chunk.
struct host_chunk {
    std::uint32_t index = 0;
    std::uint32_t generation = 0; ///< 0 is never given out; the handle of a destroyed chunk stays invalid

    friend constexpr bool operator==(host_chunk, host_chunk) noexcept = default;
};

} // namespace vtensor

namespace vtensor::host {

/// Handles, ranges and mapping counts. O(1) a call, but for what the memory file costs.
class chunk_table {
  public:
    explicit chunk_table(memory_file&& file) noexcept : file_{std::move(file)} {}

    [[nodiscard]] result<host_chunk> create(bytes size) noexcept {
        auto spare = free_ranges::spare_node::allocate();
        if (!spare || !make_room())
            return error{errc::out_of_memory, verb::create, ENOMEM, size};
        const auto offset = file_.allocate(size);
        if (!offset)
            return offset.error();
        const std::uint32_t index = unused_.back();
        unused_.pop_back();
        entry& made = entries_[index];
        made.offset = *offset;
        made.size = size;
        made.alive = true;
        made.given_up = false;
        made.spare.emplace(std::move(spare));
        return host_chunk{index, made.generation};
    }

    /// The size of a chunk that was created and not destroyed; 0 for any other handle.
    [[nodiscard]] bytes size_of(host_chunk chunk) const noexcept {
        if (chunk.index >= entries_.size())
            return bytes{0};
        const entry& found = entries_[chunk.index];
        const bool valid = found.alive && !found.given_up && found.generation == chunk.generation;
        return valid ? found.size : bytes{0};
    }

    /// The handle becomes invalid; the memory goes with the last mapping.
    void destroy(host_chunk chunk) noexcept {
        entries_[chunk.index].given_up = true;
        free_if_unused(chunk.index);
    }

    /// Where the chunk lies in the memory file.
    [[nodiscard]] std::size_t offset(std::size_t index) const noexcept { return entries_[index].offset; }
    void add_mapping(std::size_t index) noexcept { ++entries_[index].mappings; }
    void drop_mapping(std::size_t index) noexcept {
        --entries_[index].mappings;
        free_if_unused(index);
    }

    [[nodiscard]] const memory_file& file() const noexcept { return file_; }

  private:
    struct entry {
        std::size_t offset = 0;
        bytes size{};
        std::size_t mappings = 0;
        std::uint32_t generation = 1;
        bool alive = false;
        bool given_up = false;
        std::optional<free_ranges::spare_node> spare{};
    };

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

    void free_if_unused(std::size_t index) noexcept {
        entry& candidate = entries_[index];
        if (!candidate.given_up || candidate.mappings != 0)
            return;
        // Where the kernel does not take the memory back, the range is reused all the same.
        static_cast<void>(file_.free(candidate.offset, candidate.size, std::move(*candidate.spare)));
        candidate.spare.reset();
        candidate.alive = false;
        if (++candidate.generation !=
            0) // a handle of every generation was given out: never use the entry again
            unused_.push_back(static_cast<std::uint32_t>(index));
    }

    memory_file file_;
    std::vector<entry> entries_;
    std::vector<std::uint32_t> unused_;
};

} // namespace vtensor::host
