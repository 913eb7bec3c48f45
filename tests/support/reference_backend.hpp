// SPDX-License-Identifier: Apache-2.0
//
// The contract of a backend as plain book-keeping, page by page, without real memory and without cleverness:
// the oracle that real backends are compared with, and the smallest complete example of a backend.
#pragma once

#include <vtensor/core/concepts.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>

namespace vtensor::testing {

struct reference_chunk {
    std::uint64_t id = 0;
    friend constexpr bool operator==(reference_chunk, reference_chunk) noexcept = default;
};

struct reference_options {
    bytes granularity = 4_KiB;
    bytes capacity = 1_GiB;
    std::size_t max_mappings = std::numeric_limits<std::size_t>::max();
};

/// A model: addresses are numbers that nobody may follow. `read` and `write` stand for touching them. It does
/// not care about running out of the test's own memory.
class reference_backend {
  public:
    using chunk_type = reference_chunk;

    explicit reference_backend(const reference_options& options = {}) : options_{options} {}

    // ---- the contract ----

    [[nodiscard]] bytes granularity() const noexcept { return options_.granularity; }
    [[nodiscard]] bool can_alias() const noexcept { return true; }

    [[nodiscard]] result<address> reserve(bytes size, bytes align) noexcept {
        const std::lock_guard lock{mutex_};
        if (const errc refusal = check_reserve(size, align); refusal != errc::ok)
            return refuse(refusal, verb::reserve);
        const std::uintptr_t unit = std::max(align, options_.granularity).count();
        const address where{(next_ + unit - 1) / unit * unit};
        next_ = where.value() + size.count() + options_.granularity.count(); // a gap, so that none touch
        reservations_[where] = size;
        return where;
    }

    /// Reserves where another backend did, so that both may be given the same addresses. False where that
    /// place is not what the contract promises.
    [[nodiscard]] bool reserve_at(address where, bytes size, bytes align) noexcept {
        const std::lock_guard lock{mutex_};
        const bytes unit = std::max(align, options_.granularity);
        if (check_reserve(size, align) != errc::ok || where.is_null() || !where.is_multiple_of(unit))
            return false;
        for (const auto& [other, other_size] : reservations_) {
            if (where < other + other_size && other < where + size)
                return false;
        }
        reservations_[where] = size;
        return true;
    }

    [[nodiscard]] status release(address where, bytes size) noexcept {
        const std::lock_guard lock{mutex_};
        const auto found = reservations_.find(where);
        if (found == reservations_.end() || found->second != size)
            return refuse(errc::not_reserved, verb::release);
        for (const auto& [start, unused] : pages_) {
            if (where <= start && start < where + size)
                return refuse(errc::still_mapped, verb::release);
        }
        reservations_.erase(found);
        return {};
    }

    [[nodiscard]] result<reference_chunk> create(bytes size) noexcept {
        const std::lock_guard lock{mutex_};
        if (size == bytes{0})
            return refuse(errc::invalid_argument, verb::create);
        if (size % granularity() != bytes{0})
            return refuse(errc::misaligned, verb::create);
        if (size > options_.capacity || physical_ > options_.capacity - size)
            return refuse(errc::out_of_memory, verb::create);
        const reference_chunk chunk{++last_id_};
        chunks_[chunk.id] = std::make_shared<memory>(physical_, size);
        return chunk;
    }

    [[nodiscard]] status destroy(reference_chunk chunk) noexcept {
        const std::lock_guard lock{mutex_};
        return chunks_.erase(chunk.id) == 1 ? status{} : status{refuse(errc::unknown_chunk, verb::destroy)};
    }

    [[nodiscard]] status map(address where, reference_chunk chunk) noexcept {
        const std::lock_guard lock{mutex_};
        const auto found = chunks_.find(chunk.id);
        if (found == chunks_.end())
            return refuse(errc::unknown_chunk, verb::map);
        if (!where.is_multiple_of(granularity()))
            return refuse(errc::misaligned, verb::map);
        const bytes size = found->second->size;
        if (!is_reserved(where, size))
            return refuse(errc::not_reserved, verb::map);
        for (bytes offset{0}; offset < size; offset += granularity()) {
            if (pages_.contains(where + offset))
                return refuse(errc::already_mapped, verb::map);
        }
        if (mappings_ >= options_.max_mappings)
            return refuse(errc::too_many_mappings, verb::map);
        ++mappings_;
        for (bytes offset{0}; offset < size; offset += granularity())
            pages_[where + offset] = {found->second, offset, where, access_mode::none};
        return {};
    }

    [[nodiscard]] status set_access(address where, bytes size, access_mode allowed) noexcept {
        const std::lock_guard lock{mutex_};
        if (size == bytes{0} || (allowed != access_mode::none && allowed != access_mode::read &&
                                 allowed != access_mode::read_write))
            return refuse(errc::invalid_argument, verb::set_access);
        if (const errc refusal = check_mapped(where, size); refusal != errc::ok)
            return refuse(refusal, verb::set_access);
        for (bytes offset{0}; offset < size; offset += granularity())
            pages_[where + offset].allowed = allowed;
        return {};
    }

    [[nodiscard]] status unmap(address where, bytes size) noexcept {
        const std::lock_guard lock{mutex_};
        if (size == bytes{0})
            return refuse(errc::invalid_argument, verb::unmap);
        if (const errc refusal = check_mapped(where, size); refusal != errc::ok)
            return refuse(refusal, verb::unmap);
        for (bytes offset{0}; offset < size; offset += granularity()) {
            if (pages_[where + offset].mapping_start == where + offset)
                --mappings_;
            pages_.erase(where + offset);
        }
        return {};
    }

    // ---- what a device would do, and what the kernel would say ----

    [[nodiscard]] bool may_touch(address where, access_mode how) const noexcept {
        const std::lock_guard lock{mutex_};
        const auto found = pages_.find(page_of(where));
        return found != pages_.end() && found->second.allowed >= how;
    }
    /// Only where it may be touched.
    void write(address where, std::span<const std::byte> from) noexcept {
        const std::lock_guard lock{mutex_};
        for (std::size_t index = 0; index < from.size(); ++index) {
            const address byte = where + bytes{index};
            const page& at = pages_.at(page_of(byte));
            at.behind->written[(at.offset + (byte - page_of(byte))).count()] = from[index];
        }
    }
    /// The byte at `where`; none where nothing was written since its chunk was created.
    [[nodiscard]] std::optional<std::byte> read(address where) const noexcept {
        const std::lock_guard lock{mutex_};
        const page& at = pages_.at(page_of(where));
        const auto found = at.behind->written.find((at.offset + (where - page_of(where))).count());
        return found == at.behind->written.end() ? std::nullopt : std::optional{found->second};
    }
    [[nodiscard]] bytes physical_bytes() const noexcept {
        const std::lock_guard lock{mutex_};
        return physical_;
    }
    [[nodiscard]] bytes mapped_bytes() const noexcept {
        const std::lock_guard lock{mutex_};
        return granularity() * pages_.size();
    }
    [[nodiscard]] std::size_t mapping_count() const noexcept {
        const std::lock_guard lock{mutex_};
        return mappings_;
    }

  private:
    /// The memory of a chunk: lives while its handle or one of its mappings does.
    struct memory {
        memory(bytes& physical_bytes, bytes chunk_size) : physical{physical_bytes}, size{chunk_size} {
            physical += size;
        }
        memory(const memory&) = delete;
        memory& operator=(const memory&) = delete;
        ~memory() { physical -= size; }

        bytes& physical;
        bytes size;
        std::map<std::size_t, std::byte> written;
    };
    struct page {
        std::shared_ptr<memory> behind;
        bytes offset{};
        address mapping_start{};
        access_mode allowed = access_mode::none;
    };

    static error refuse(errc code, verb where) noexcept { return error{code, where, 0, bytes{0}}; }

    [[nodiscard]] errc check_reserve(bytes size, bytes align) const noexcept {
        if (size == bytes{0} || (align != bytes{0} && !std::has_single_bit(align.count())))
            return errc::invalid_argument;
        if (size % granularity() != bytes{0})
            return errc::misaligned;
        constexpr bytes all_addresses = 64_TiB;
        return size > all_addresses || align > all_addresses ? errc::out_of_addresses : errc::ok;
    }

    [[nodiscard]] bool is_reserved(address where, bytes size) const noexcept {
        for (const auto& [start, reserved] : reservations_) {
            if (start <= where && size <= reserved && where - start <= reserved - size)
                return true;
        }
        return false;
    }

    /// Why the range is not exactly one or several mappings: the same order for `set_access` and `unmap`.
    [[nodiscard]] errc check_mapped(address where, bytes size) const noexcept {
        if (size % granularity() != bytes{0} || !where.is_multiple_of(granularity()))
            return errc::misaligned;
        if (!is_reserved(where, size))
            return errc::not_reserved;
        for (bytes offset{0}; offset < size; offset += granularity()) {
            if (!pages_.contains(where + offset))
                return errc::not_mapped;
        }
        const address end = where + size;
        const auto after = pages_.find(end);
        const bool cut_at_start = pages_.at(where).mapping_start != where;
        const bool cut_at_end = after != pages_.end() && after->second.mapping_start != end;
        return cut_at_start || cut_at_end ? errc::partial_mapping : errc::ok;
    }

    [[nodiscard]] address page_of(address where) const noexcept {
        return address{where.value() / granularity().count() * granularity().count()};
    }

    const reference_options options_;
    mutable std::mutex mutex_;
    bytes physical_{};
    std::uint64_t last_id_ = 0;
    std::uintptr_t next_ = std::uintptr_t{1} << 40;
    std::size_t mappings_ = 0;
    std::map<address, bytes> reservations_;
    std::map<std::uint64_t, std::shared_ptr<memory>> chunks_;
    std::map<address, page> pages_;
};

static_assert(backend<reference_backend>);
static_assert(aliasing_backend<reference_backend>);
static_assert(!host_visible_backend<reference_backend>);

} // namespace vtensor::testing
