// SPDX-License-Identifier: Apache-2.0
//
// The host backend: the contract of a device's virtual memory kept with plain Linux memory. Addresses are
// reserved without memory behind them, physical memory is ranges of one memory file, and mapping is mmap. It
// refuses what a device refuses, so what runs here runs there. It never prints, never aborts, and keeps no
// global state.
#pragma once

#include <vtensor/backends/host/huge_pages.hpp>
#include <vtensor/backends/host/memory_file.hpp>
#include <vtensor/backends/host/options.hpp>
#include <vtensor/backends/host/range_table.hpp>
#include <vtensor/core/concepts.hpp>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

namespace vtensor {

/// A piece of physical memory of one `host_backend`. The default value is no chunk.
struct host_chunk {
    std::uint32_t index = 0;
    std::uint32_t generation = 0; ///< 0 is never given out; the handle of a destroyed chunk stays invalid

    friend constexpr bool operator==(host_chunk, host_chunk) noexcept = default;
};

/// Linux memory as a backend. Verbs may be called from any thread (one mutex). Not movable: pools and tensors
/// point at it and must be gone before it. What was left reserved or created goes with it.
///
/// Cost: `map` is book-keeping, O(log n). The first `set_access` is one mmap for every run of chunks that are
/// neighbours in the memory file, a later one a single mprotect; `unmap` is one mmap. Every such run is a
/// mapping of its own to the kernel, which allows `vm.max_map_count` of them (65,530 by default); beyond that
/// `set_access` fails with `errc::too_many_mappings`, as it does on a device.
class host_backend {
  public:
    using chunk_type = host_chunk;

    /// Throws `bad_argument` for a granularity that is no multiple of the page or no power of two,
    /// `backend_failure` or `out_of_memory` where the kernel gives no memory file.
    explicit host_backend(const host_options& options = {}) : host_backend{open(options).value(), options} {}

    host_backend(const host_backend&) = delete;
    host_backend& operator=(const host_backend&) = delete;

    ~host_backend() {
        table_.for_each_reservation(
            [](address where, bytes size) { ::munmap(where.to_pointer(), size.count()); });
    }

    // ---- the contract ----

    [[nodiscard]] bytes granularity() const noexcept { return granularity_; }

    /// Addresses only. `align` is a power of two, or 0 for the granularity.
    [[nodiscard]] result<address> reserve(bytes size, bytes align) noexcept {
        if (size == bytes{0} || (align != bytes{0} && !std::has_single_bit(align.count())))
            return refuse(errc::invalid_argument, verb::reserve, size);
        if (!is_whole(size))
            return refuse(errc::misaligned, verb::reserve, size);
        align = std::max(align, granularity_);
        const std::lock_guard lock{mutex_};
        return reserve_aligned(size, align);
    }

    [[nodiscard]] status release(address where, bytes size) noexcept {
        const std::lock_guard lock{mutex_};
        if (const errc refusal = table_.check_release(where, size); refusal != errc::ok)
            return refuse(refusal, verb::release, size);
        if (::munmap(where.to_pointer(), size.count()) != 0)
            return refuse(errc::native_failure, verb::release, size, errno);
        table_.remove_reservation(where);
        reserved_ -= size;
        return {};
    }

    /// Takes the memory from the kernel now: the first touch cannot fail for want of it.
    [[nodiscard]] result<host_chunk> create(bytes size) noexcept {
        if (size == bytes{0})
            return refuse(errc::invalid_argument, verb::create, size);
        if (!is_whole(size))
            return refuse(errc::misaligned, verb::create, size);
        const std::lock_guard lock{mutex_};
        return create_chunk(size);
    }

    [[nodiscard]] status destroy(host_chunk chunk) noexcept {
        const std::lock_guard lock{mutex_};
        chunk_record* const record = find(chunk);
        if (record == nullptr)
            return refuse(errc::unknown_chunk, verb::destroy, bytes{0});
        record->given_up = true;
        if (record->mappings == 0)
            free_chunk(chunk.index);
        return {};
    }

    [[nodiscard]] status map(address where, host_chunk chunk) noexcept {
        const std::lock_guard lock{mutex_};
        chunk_record* const record = find(chunk);
        if (record == nullptr)
            return refuse(errc::unknown_chunk, verb::map, bytes{0});
        const bytes size = record->size;
        if (!where.is_multiple_of(granularity_))
            return refuse(errc::misaligned, verb::map, size);
        if (const errc refusal = table_.add_mapping(where, {chunk.index, size, access::none});
            refusal != errc::ok)
            return refuse(refusal, verb::map, size);
        if (mappings_ >= max_mappings_) {
            table_.remove_mapping(where, size);
            return refuse(errc::too_many_mappings, verb::map, size);
        }
        ++record->mappings;
        ++mappings_;
        mapped_ += size;
        return {};
    }

    [[nodiscard]] status set_access(address where, bytes size, access allowed) noexcept {
        if (size == bytes{0} || allowed > access::read_write)
            return refuse(errc::invalid_argument, verb::set_access, size);
        if (!is_whole(size) || !where.is_multiple_of(granularity_))
            return refuse(errc::misaligned, verb::set_access, size);
        const std::lock_guard lock{mutex_};
        const auto covered = table_.cover(where, size);
        if (covered.refusal != errc::ok)
            return refuse(covered.refusal, verb::set_access, size);
        if (const int native = apply(covered, allowed); native != 0) {
            restore(covered); // the kernel may have changed some of the mappings before it gave up
            return refuse(errc::too_many_mappings, verb::set_access, size, native);
        }
        for (auto entry = covered.first; entry != covered.last; ++entry) {
            entry->second.installed = entry->second.installed || allowed != access::none;
            entry->second.allowed = allowed;
        }
        return {};
    }

    [[nodiscard]] status unmap(address where, bytes size) noexcept {
        if (size == bytes{0})
            return refuse(errc::invalid_argument, verb::unmap, size);
        if (!is_whole(size) || !where.is_multiple_of(granularity_))
            return refuse(errc::misaligned, verb::unmap, size);
        const std::lock_guard lock{mutex_};
        const auto covered = table_.cover(where, size);
        if (covered.refusal != errc::ok)
            return refuse(covered.refusal, verb::unmap, size);
        if (::mmap(where.to_pointer(), size.count(), PROT_NONE, reserved_flags | MAP_FIXED, -1, 0) ==
            MAP_FAILED)
            return refuse(errc::too_many_mappings, verb::unmap, size, errno);
        for (auto entry = covered.first; entry != covered.last; ++entry)
            forget_mapping(entry->second);
        covered.range->mappings.erase(covered.first, covered.last);
        mapped_ -= size;
        return {};
    }

    // ---- refinements ----

    [[nodiscard]] bool can_alias() const noexcept { return true; }
    [[nodiscard]] bool host_visible() const noexcept { return true; }

    // ---- what is there ----

    /// Bytes of addresses that are reserved.
    [[nodiscard]] bytes reserved_bytes() const noexcept {
        const std::lock_guard lock{mutex_};
        return reserved_;
    }
    /// Bytes of addresses that are mapped; a chunk mapped twice counts twice.
    [[nodiscard]] bytes mapped_bytes() const noexcept {
        const std::lock_guard lock{mutex_};
        return mapped_;
    }
    /// Mappings that exist, each chunk at each address one.
    [[nodiscard]] std::size_t mapping_count() const noexcept {
        const std::lock_guard lock{mutex_};
        return mappings_;
    }
    /// Physical bytes created and not yet returned, by our own count.
    [[nodiscard]] bytes physical_bytes() const noexcept {
        const std::lock_guard lock{mutex_};
        return file_.allocated();
    }
    /// The same by the kernel's count of the memory file. Equal to `physical_bytes()` but for what the kernel
    /// rounds.
    [[nodiscard]] bytes kernel_physical_bytes() const noexcept {
        const std::lock_guard lock{mutex_};
        return file_.resident();
    }
    [[nodiscard]] bytes capacity() const noexcept { return file_.capacity(); }
    [[nodiscard]] const huge_page_report& huge_pages() const noexcept { return huge_pages_; }

    /// One line for a person: pages, granularity, capacity.
    [[nodiscard]] std::string describe() const {
        std::string text = "host memory, granularity " + to_string(granularity_) + ", capacity " +
                           to_string(file_.capacity()) + ", huge pages ";
        return text.append(huge_pages_.reason);
    }

  private:
    struct chunk_record {
        std::size_t offset = 0;
        bytes size{};
        std::size_t mappings = 0;
        std::uint32_t generation = 1;
        bool alive = false;
        bool given_up = false;
        std::optional<host::free_ranges::spare_node> spare{};
    };

    static constexpr int reserved_flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

    static result<host::opened_file> open(const host_options& options) noexcept {
        const bytes page = page_size(options.pages);
        if (options.granularity != bytes{0} &&
            (options.granularity % page != bytes{0} || !std::has_single_bit(options.granularity.count())))
            return error{errc::misaligned, verb::construct, 0, options.granularity};
        const bytes machine{static_cast<std::size_t>(::sysconf(_SC_PHYS_PAGES)) *
                            page_size(host_pages::system).count()};
        return host::open_memory(options.pages, options.capacity == bytes{0} ? machine : options.capacity);
    }

    host_backend(host::opened_file&& opened, const host_options& options)
        : page_{page_size(options.pages)},
          granularity_{options.granularity == bytes{0} ? page_ : options.granularity},
          max_mappings_{options.max_mappings == 0 ? std::numeric_limits<std::size_t>::max()
                                                  : options.max_mappings},
          huge_pages_{opened.pages},
          file_{std::move(opened.file)} {}

    static bytes page_size(host_pages pages) noexcept {
        return pages == host_pages::huge ? host::huge_page_size
                                         : bytes{static_cast<std::size_t>(::sysconf(_SC_PAGESIZE))};
    }
    static error refuse(errc code, verb where, bytes size, int native = 0) noexcept {
        return error{code, where, native, size};
    }
    static int protection(access allowed) noexcept {
        switch (allowed) {
        case access::none:
            return PROT_NONE;
        case access::read:
            return PROT_READ;
        case access::read_write:
            return PROT_READ | PROT_WRITE;
        }
        return PROT_NONE;
    }
    [[nodiscard]] bool is_whole(bytes size) const noexcept { return size % granularity_ == bytes{0}; }

    /// Reserves too much and gives the edges back, so that the start is aligned.
    result<address> reserve_aligned(bytes size, bytes align) noexcept {
        const bytes slack = align > page_size(host_pages::system) ? align : bytes{0};
        constexpr std::size_t most = std::numeric_limits<std::size_t>::max() / 2;
        if (size.count() > most || slack.count() > most - size.count())
            return refuse(errc::out_of_addresses, verb::reserve, size);
        void* const raw = ::mmap(nullptr, (size + slack).count(), PROT_NONE, reserved_flags, -1, 0);
        if (raw == MAP_FAILED)
            return refuse(errc::out_of_addresses, verb::reserve, size, errno);
        const address start{raw};
        const address where{(start.value() + align.count() - 1) / align.count() * align.count()};
        const address end = start + size + slack;
        if (where != start)
            ::munmap(raw, (where - start).count());
        if (where + size != end)
            ::munmap((where + size).to_pointer(), (end - (where + size)).count());
        if (const errc refusal = table_.add_reservation(where, size); refusal != errc::ok) {
            ::munmap(where.to_pointer(), size.count());
            return refuse(refusal, verb::reserve, size);
        }
        reserved_ += size;
        return where;
    }

    result<host_chunk> create_chunk(bytes size) noexcept {
        auto spare = host::free_ranges::spare_node::allocate();
        if (!spare || !make_room_for_record())
            return refuse(errc::out_of_memory, verb::create, size, ENOMEM);
        const auto offset = file_.allocate(size);
        if (!offset)
            return offset.error();
        const std::uint32_t index = unused_records_.back();
        unused_records_.pop_back();
        chunk_record& record = chunks_[index];
        record.offset = *offset;
        record.size = size;
        record.alive = true;
        record.given_up = false;
        record.spare.emplace(std::move(spare));
        return host_chunk{index, record.generation};
    }

    /// Afterwards `unused_records_` has an entry, and room for every record there is.
    bool make_room_for_record() noexcept {
        if (!unused_records_.empty())
            return true;
        try {
            if (chunks_.size() == chunks_.capacity()) {
                const std::size_t records = std::max<std::size_t>(64, 2 * chunks_.capacity());
                unused_records_.reserve(records); // first: giving a chunk back must never allocate
                chunks_.reserve(records);
            }
            chunks_.emplace_back();
        } catch (const std::bad_alloc&) {
            return false;
        }
        unused_records_.push_back(static_cast<std::uint32_t>(chunks_.size() - 1));
        return true;
    }

    /// The record behind a handle that is alive, or null.
    chunk_record* find(host_chunk chunk) noexcept {
        if (chunk.index >= chunks_.size())
            return nullptr;
        chunk_record& record = chunks_[chunk.index];
        return record.alive && !record.given_up && record.generation == chunk.generation ? &record : nullptr;
    }

    void free_chunk(std::size_t index) noexcept {
        chunk_record& record = chunks_[index];
        // Only an interrupted machine refuses to punch a hole; the range is reused all the same.
        static_cast<void>(file_.free(record.offset, record.size, std::move(*record.spare)));
        record.spare.reset();
        record.alive = false;
        if (++record.generation != 0)
            unused_records_.push_back(static_cast<std::uint32_t>(index));
    }

    // The kernel is told of a mapping when access to it is first granted: until then its addresses are
    // PROT_NONE either way, and mappings whose chunks are neighbours in the file cost one call for all of
    // them.

    /// Gives the mappings the access. 0, or errno after doing a part of it.
    int apply(const host::range_table::covered& covered, access allowed) const noexcept {
        for (auto entry = covered.first; entry != covered.last;) {
            const bool installed = entry->second.installed;
            const std::size_t offset = chunks_[entry->second.chunk].offset;
            const address start = entry->first;
            bytes run{0};
            do {
                run += entry->second.size;
                ++entry;
            } while (entry != covered.last && entry->second.installed == installed &&
                     (installed || chunks_[entry->second.chunk].offset == offset + run.count()));
            int native = 0;
            if (installed)
                native = protect(start, run, allowed);
            else if (allowed != access::none)
                native = install(start, run, offset, allowed);
            if (native != 0)
                return native;
        }
        return 0;
    }

    /// Puts the mappings back to what the table says of them, as far as the kernel lets us.
    void restore(const host::range_table::covered& covered) const noexcept {
        for (auto entry = covered.first; entry != covered.last; ++entry) {
            if (entry->second.installed)
                static_cast<void>(protect(entry->first, entry->second.size, entry->second.allowed));
            else
                static_cast<void>(make_reserved(entry->first, entry->second.size));
        }
    }

    int install(address where, bytes size, std::size_t offset, access allowed) const noexcept {
        const void* const got =
            ::mmap(where.to_pointer(), size.count(), protection(allowed), MAP_SHARED | MAP_FIXED,
                   file_.descriptor(), static_cast<off_t>(offset));
        return got == MAP_FAILED ? errno : 0;
    }
    static int protect(address where, bytes size, access allowed) noexcept {
        return ::mprotect(where.to_pointer(), size.count(), protection(allowed)) != 0 ? errno : 0;
    }
    static int make_reserved(address where, bytes size) noexcept {
        const void* const got =
            ::mmap(where.to_pointer(), size.count(), PROT_NONE, reserved_flags | MAP_FIXED, -1, 0);
        return got == MAP_FAILED ? errno : 0;
    }

    void forget_mapping(const host::mapping& entry) noexcept {
        chunk_record& record = chunks_[entry.chunk];
        --mappings_;
        if (--record.mappings == 0 && record.given_up)
            free_chunk(entry.chunk);
    }

    bytes page_;
    bytes granularity_;
    std::size_t max_mappings_;
    huge_page_report huge_pages_;

    mutable std::mutex mutex_;
    host::memory_file file_;
    host::range_table table_;
    std::vector<chunk_record> chunks_;
    std::vector<std::uint32_t> unused_records_;
    std::size_t mappings_ = 0;
    bytes reserved_{};
    bytes mapped_{};
};

static_assert(backend<host_backend>);
static_assert(aliasing_backend<host_backend>);
static_assert(host_visible_backend<host_backend>);

} // namespace vtensor
