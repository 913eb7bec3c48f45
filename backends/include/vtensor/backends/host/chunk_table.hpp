// SPDX-License-Identifier: Apache-2.0
//
// The chunks of a host backend under handles that never become valid again once destroyed: ranges of one
// memory file, or a file each where they can be exported or were imported. It counts the mappings of each
// chunk, because memory lives until its last mapping goes. It maps nothing; not locked.
#pragma once

#include <vtensor/backends/host/chunk_file.hpp>
#include <vtensor/backends/host/file_ranges.hpp>
#include <vtensor/backends/host/memory_budget.hpp>
#include <vtensor/backends/os/file_descriptor.hpp>
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

/// Handles, places and mapping counts. O(1) a call, but for what the kernel takes.
class chunk_table {
  public:
    /// Chunks are ranges of `shared`, or where it is none each is a file of its own, opened with `flags` as
    /// for memfd_create.
    chunk_table(bytes capacity, unsigned flags, file_descriptor&& shared) noexcept
        : budget_{capacity}, flags_{flags}, shared_{std::move(shared)} {}

    [[nodiscard]] result<host_chunk> create(bytes size) noexcept {
        if (!make_room() || !budget_.take(size))
            return error{errc::out_of_memory, verb::create, 0, size};
        entry& made = entries_[unused_.back()];
        if (const status outcome = has_own_files() ? create_file(made, size) : create_range(made, size);
            !outcome) {
            budget_.give_back(size);
            return outcome;
        }
        return enter(size);
    }

    /// A chunk over the file of another process's chunk, which `check_chunk_file` has let in.
    [[nodiscard]] result<host_chunk> import_file(file_descriptor&& file, bytes size) noexcept {
        if (!make_room())
            return error{errc::out_of_memory, verb::import_chunk, ENOMEM, size};
        entry& made = entries_[unused_.back()];
        made.own = std::move(file);
        made.imported = true;
        imported_ += size;
        return enter(size);
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

    /// Where a chunk's memory lies.
    struct place {
        int file = -1;
        std::size_t offset = 0;

        friend bool operator==(const place&, const place&) noexcept = default;
    };
    [[nodiscard]] place place_of(std::size_t index) const noexcept {
        const entry& found = entries_[index];
        return {found.own ? found.own.number() : shared_.descriptor(), found.offset};
    }
    void add_mapping(std::size_t index) noexcept { ++entries_[index].mappings; }
    void drop_mapping(std::size_t index) noexcept {
        --entries_[index].mappings;
        free_if_unused(index);
    }

    [[nodiscard]] bool has_own_files() const noexcept { return shared_.descriptor() < 0; }
    [[nodiscard]] bytes capacity() const noexcept { return budget_.capacity(); }
    /// Bytes of the chunks that were created here, by our own count.
    [[nodiscard]] bytes created() const noexcept { return budget_.taken(); }
    /// Bytes of the chunks that were imported.
    [[nodiscard]] bytes imported() const noexcept { return imported_; }
    /// Bytes of the chunks that were created here, by the kernel's count. O(chunks) where each is a file.
    [[nodiscard]] bytes resident() const noexcept {
        bytes sum = has_own_files() ? bytes{0} : resident_bytes(shared_.descriptor());
        for (const entry& each : entries_) {
            if (each.own && !each.imported)
                sum += resident_bytes(each.own.number());
        }
        return sum;
    }

  private:
    struct entry {
        std::size_t offset = 0;
        bytes size{};
        std::size_t mappings = 0;
        std::optional<free_ranges::spare_node>
            spare{};           ///< of a range of the shared file, to give it back with
        file_descriptor own{}; ///< none where the chunk is such a range
        std::uint32_t generation = 1;
        bool alive = false;
        bool given_up = false;
        bool imported = false;
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

    [[nodiscard]] status create_range(entry& made, bytes size) noexcept {
        auto spare = free_ranges::spare_node::allocate();
        if (!spare)
            return error{errc::out_of_memory, verb::create, ENOMEM, size};
        const auto offset = shared_.allocate(size);
        if (!offset)
            return offset.status();
        made.offset = *offset;
        made.spare.emplace(std::move(spare));
        return {};
    }
    [[nodiscard]] status create_file(entry& made, bytes size) const noexcept {
        auto file = create_chunk_file(flags_, size, verb::create);
        if (!file)
            return file.status();
        made.own = *std::move(file);
        return {};
    }

    /// The entry that `make_room` found becomes a chunk; its place is set.
    [[nodiscard]] host_chunk enter(bytes size) noexcept {
        const std::uint32_t index = unused_.back();
        unused_.pop_back();
        entry& made = entries_[index];
        made.size = size;
        made.alive = true;
        made.given_up = false;
        return {index, made.generation};
    }

    void free_if_unused(std::size_t index) noexcept {
        entry& candidate = entries_[index];
        if (!candidate.given_up || candidate.mappings != 0)
            return;
        if (candidate.spare) {
            shared_.free(candidate.offset, candidate.size, std::move(*candidate.spare));
            candidate.spare.reset();
            candidate.offset = 0;
        }
        candidate.own = file_descriptor{}; // the memory goes with the last process that has the file
        if (candidate.imported)
            imported_ -= candidate.size;
        else
            budget_.give_back(candidate.size);
        candidate.imported = false;
        candidate.alive = false;
        if (++candidate.generation !=
            0) // a handle of every generation was given out: never use the entry again
            unused_.push_back(static_cast<std::uint32_t>(index));
    }

    memory_budget budget_;
    unsigned flags_;
    file_ranges shared_;
    bytes imported_{};
    std::vector<entry> entries_;
    std::vector<std::uint32_t> unused_;
};

} // namespace vtensor::host
