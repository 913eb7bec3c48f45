// SPDX-License-Identifier: Apache-2.0
//
// What recorded calls lead to: which addresses are reserved, which chunk lies behind which, and what that
// amounts to. It calls no backend.
#pragma once

#include <vtensor/adaptors/trace_sink.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>

namespace memory_map {

/// A call that succeeded but cannot have, after those before it: the recording begins too late, or calls are
/// missing.
class replay_error : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// One chunk at one place.
struct mapping {
    vtensor::bytes size;
    std::uint64_t chunk = 0;
    vtensor::access_mode allowed = vtensor::access_mode::none;
};

struct chunk_state {
    vtensor::bytes size;
    std::size_t places = 0; ///< how many mappings it has
    bool destroyed = false; ///< its memory lives on until the last of them goes
};

struct figures {
    vtensor::bytes reserved; ///< addresses
    vtensor::bytes mapped;   ///< of them, with a chunk behind
    vtensor::bytes physical; ///< memory of all chunks
    vtensor::bytes shared;   ///< of `mapped`, what lies on chunks that have several places
    friend constexpr bool operator==(const figures&, const figures&) noexcept = default;
};

/// Replays calls one by one; one that failed changes nothing. O(log n) a call and page concerned.
class memory_model {
  public:
    using reservations_type = std::map<vtensor::address, vtensor::bytes>;
    using mappings_type = std::map<vtensor::address, mapping>;
    using chunks_type = std::map<std::uint64_t, chunk_state>;

    /// Throws `replay_error`; the model is of no use then.
    void apply(const vtensor::adaptors::trace_event& event);

    [[nodiscard]] const reservations_type& reservations() const noexcept { return reservations_; }
    [[nodiscard]] const mappings_type& mappings() const noexcept { return mappings_; }
    [[nodiscard]] const chunks_type& chunks() const noexcept { return chunks_; }
    [[nodiscard]] const figures& totals() const noexcept { return totals_; }

    /// The reservation around an address, or `reservations().end()`.
    [[nodiscard]] reservations_type::const_iterator reservation_at(vtensor::address where) const noexcept;

  private:
    void reserve(vtensor::address where, vtensor::bytes size);
    void release(vtensor::address where, vtensor::bytes size);
    void create(std::uint64_t chunk, vtensor::bytes size);
    void destroy(std::uint64_t chunk);
    void map(vtensor::address where, std::uint64_t chunk);
    void set_access(vtensor::address where, vtensor::bytes size, vtensor::access_mode allowed);
    void unmap(vtensor::address where, vtensor::bytes size);
    /// The mappings that make up [where, where + size), each of them whole.
    struct range {
        mappings_type::iterator first;
        mappings_type::iterator last;
    };
    range whole_mappings(vtensor::address where, vtensor::bytes size, const char* verb);

    reservations_type reservations_;
    mappings_type mappings_;
    chunks_type chunks_;
    figures totals_;
};

} // namespace memory_map
