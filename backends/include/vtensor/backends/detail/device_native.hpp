// SPDX-License-Identifier: Apache-2.0
//
// Chunks and addresses as a driver sees them: a chunk is one allocation or several pieces, a reservation may
// be larger than what is handed out of it. Every operation is done wholly or undone; an undo is tried three
// times. It keeps no book, checks no argument and is not locked. Operations return 0 or the driver's code.
//
// `Api` puts the names of one driver behind the calls used here: `reserve`, `release`, `create`, `destroy`,
// `map`, `unmap`, `set_access`, `allocate_plain`, `free_plain`.
#pragma once

#include <vtensor/backends/detail/device_quirks.hpp>
#include <vtensor/backends/detail/device_types.hpp>

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace vtensor::detail {

/// Access for one device.
struct device_grant {
    int device = 0;
    access_mode allowed = access_mode::none;
};

/// Devices in one call of `Api::set_access`, the own one included.
inline constexpr std::size_t most_grants = 64;

/// Runs `call`, which returns 0 or a code, up to three times: for what must be undone or given back. A
/// failure that passes, and passes once more while it is undone, leaves nothing behind.
template <class Call>
int insist(Call call) noexcept {
    int failed = call();
    for (int tries = 1; failed != 0 && tries < 3; ++tries)
        failed = call();
    return failed;
}

/// A range of addresses as the driver gave it, and the part of it that is aligned as was asked.
struct native_range {
    address whole{};
    bytes whole_size{};
    address aligned{};
};

template <class Api>
class device_native {
  public:
    using handle_type = typename Api::handle_type;
    using pieces = std::vector<handle_type>;

    explicit device_native(Api&& api) noexcept : api_{std::move(api)} {}

    [[nodiscard]] Api& api() noexcept { return api_; }
    [[nodiscard]] const Api& api() const noexcept { return api_; }
    [[nodiscard]] const device_quirks& quirks() const noexcept { return quirks_; }
    void set_quirks(const device_quirks& quirks) noexcept { quirks_ = quirks; }

    /// From now on a reservation is a plain allocation, and mapping is book-keeping only.
    void use_plain_allocation() noexcept { plain_ = true; }
    [[nodiscard]] bool plain() const noexcept { return plain_; }

    // ---- addresses ----

    /// Some drivers ignore the alignment: then more is reserved, and the aligned part handed out.
    int reserve(bytes size, bytes align, native_range& made) noexcept {
        if (const int failed = take(size, align, made); failed != 0)
            return failed;
        if (made.whole.is_multiple_of(align))
            return 0;
        static_cast<void>(insist([&] { return release(made); }));
        if (const int failed = take(size + align, align, made); failed != 0)
            return failed;
        made.aligned = address{(made.whole.value() + align.count() - 1) / align.count() * align.count()};
        return 0;
    }
    int release(const native_range& range) noexcept {
        return plain_ ? api_.free_plain(range.whole) : api_.release(range.whole, range.whole_size);
    }

    // ---- chunks ----

    [[nodiscard]] std::size_t pieces_of(bytes size) const noexcept {
        const bytes most = quirks_.largest_piece;
        return most == bytes{0} || size <= most ? 1 : pages_for(size, most).count();
    }

    /// `made` has room for `pieces_of(size)`. What could not be given back after a failure is left in it.
    int create(bytes size, pieces& made) noexcept {
        if (plain_)
            return 0;
        int failed = 0;
        for (bytes done{0}; done < size && failed == 0; done += piece_at(done, size)) {
            handle_type piece{};
            failed = api_.create(piece_at(done, size), piece);
            if (failed == 0)
                made.push_back(piece);
        }
        if (failed != 0)
            static_cast<void>(insist([&] { return destroy(made); }));
        return failed;
    }
    /// Stops at the first piece that the driver does not take back; that and the ones before it stay.
    int destroy(pieces& chunk) noexcept {
        while (!chunk.empty()) {
            if (const int failed = api_.destroy(chunk.back()); failed != 0)
                return failed;
            chunk.pop_back();
        }
        return 0;
    }

    // ---- mappings ----

    int map(address where, bytes size, std::span<const handle_type> chunk) noexcept {
        return plain_ ? 0 : map_up_to(where, size, chunk, chunk.size());
    }
    /// One mapping. Where it fails half-way the pieces are mapped again, without access.
    int unmap(address where, bytes size, std::span<const handle_type> chunk) noexcept {
        if (plain_)
            return 0;
        if (chunk.size() == 1 || !quirks_.unmap_one_by_one)
            return api_.unmap(where, size);
        bytes done{0};
        for (std::size_t index = 0; index < chunk.size(); ++index) {
            const bytes piece = piece_at(done, size);
            if (const int failed = api_.unmap(where + done, piece); failed != 0) {
                static_cast<void>(insist([&] { return map_up_to(where, size, chunk, index); }));
                return failed;
            }
            done += piece;
        }
        return 0;
    }
    /// Neighbouring mappings by one call: only where the driver can.
    int unmap_run(address where, bytes size) noexcept { return plain_ ? 0 : api_.unmap(where, size); }

    int set_access(address where, bytes size, std::span<const device_grant> grants) noexcept {
        return plain_ || grants.empty() ? 0 : api_.set_access(where, size, grants);
    }

  private:
    int take(bytes size, bytes align, native_range& made) noexcept {
        const int failed =
            plain_ ? api_.allocate_plain(size, made.whole) : api_.reserve(size, asked_for(align), made.whole);
        made.whole_size = size;
        made.aligned = made.whole;
        return failed;
    }

    [[nodiscard]] bytes asked_for(bytes align) const noexcept {
        return quirks_.alignment_unreliable ? bytes{0} : align;
    }

    [[nodiscard]] bytes piece_at(bytes done, bytes size) const noexcept {
        return quirks_.largest_piece == bytes{0} ? size : std::min(quirks_.largest_piece, size - done);
    }

    /// The first `count` pieces; all of them or none.
    int map_up_to(address where, bytes size, std::span<const handle_type> chunk, std::size_t count) noexcept {
        bytes done{0};
        for (std::size_t index = 0; index < count; ++index) {
            const bytes piece = chunk.size() == 1 ? size : piece_at(done, size);
            const int failed = api_.map(where + done, piece, chunk[index]);
            if (failed != 0) {
                for (bytes undone{0}; undone < done; undone += piece_at(undone, size))
                    static_cast<void>(
                        insist([&] { return api_.unmap(where + undone, piece_at(undone, size)); }));
                return failed;
            }
            done += piece;
        }
        return 0;
    }

    Api api_;
    device_quirks quirks_;
    bool plain_ = false;
};

} // namespace vtensor::detail
