// SPDX-License-Identifier: Apache-2.0
//
// What an adaptor remembers about chunks, found by their handle. Not locked; it never calls a backend.
#pragma once

#include <vtensor/core/concepts.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <unordered_map>
#include <utility>

namespace vtensor::adaptors::detail {

/// Hashes the bytes of a handle where equal handles have equal bytes. Other handles share one bucket: a
/// search among n of them is O(n), and still right.
template <chunk_handle Chunk>
struct handle_hash {
    [[nodiscard]] std::size_t operator()(const Chunk& chunk) const noexcept {
        if constexpr (std::has_unique_object_representations_v<Chunk>) {
            std::uint64_t hash = 14695981039346656037u; // FNV-1a
            for (const unsigned char byte : std::bit_cast<std::array<unsigned char, sizeof(Chunk)>>(chunk))
                hash = (hash ^ byte) * 1099511628211u;
            return static_cast<std::size_t>(hash);
        } else {
            return 0;
        }
    }
};

/// Handle → `Value`. A handle that is given out again after its chunk was destroyed replaces the old entry.
template <chunk_handle Chunk, class Value>
class chunk_table {
  public:
    /// False where there is no memory for the entry.
    [[nodiscard]] bool add(const Chunk& chunk, Value value) noexcept {
        try {
            entries_.insert_or_assign(chunk, std::move(value));
            return true;
        } catch (const std::bad_alloc&) {
            return false;
        }
    }

    void remove(const Chunk& chunk) noexcept { entries_.erase(chunk); }

    /// Null for a chunk that is not in the table.
    [[nodiscard]] const Value* find(const Chunk& chunk) const noexcept {
        const auto found = entries_.find(chunk);
        return found == entries_.end() ? nullptr : &found->second;
    }

  private:
    std::unordered_map<Chunk, Value, handle_hash<Chunk>> entries_;
};

} // namespace vtensor::adaptors::detail
