// SPDX-License-Identifier: Apache-2.0
//
// The host backend: the contract of a device's virtual memory kept with plain Linux memory. Addresses are
// reserved without memory behind them, physical memory is ranges of one memory file (or, where chunks are to
// be handed to other processes, a file each), and mapping is mmap. It refuses what a device refuses, so what
// runs here runs there. It never prints, never aborts, and keeps no global state.
#pragma once

#include <vtensor/backends/detail/range_table.hpp>
#include <vtensor/backends/host/addresses.hpp>
#include <vtensor/backends/host/chunk_file.hpp>
#include <vtensor/backends/host/chunk_table.hpp>
#include <vtensor/backends/host/kernel_mappings.hpp>
#include <vtensor/backends/host/open.hpp>
#include <vtensor/backends/host/options.hpp>
#include <vtensor/backends/os/handle.hpp>
#include <vtensor/core/concepts.hpp>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <string>
#include <utility>

#include <fcntl.h>

namespace vtensor {

/// Linux memory as a backend. Verbs may be called from any thread (one mutex). Not movable: pools and tensors
/// point at it and must be gone before it. What was left reserved or created goes with it.
///
/// Cost: `map` is book-keeping, O(log n). The first `set_access` is one mmap for every run of chunks that are
/// neighbours in the memory file, a later one a single mprotect; `unmap` is one mmap. Every such run is a
/// mapping of its own to the kernel, which allows `vm.max_map_count` of them (65,530 by default); beyond that
/// `set_access` fails with `errc::too_many_mappings`, as it does on a device. Chunks that can be exported,
/// and imported ones, are a file and a run each: one descriptor, and one mmap at the first `set_access`.
class host_backend {
  public:
    using chunk_type = host_chunk;
    using os_handle_type = os_handle;

    /// Throws `bad_argument` for a granularity that is no multiple of the page or no power of two,
    /// `backend_failure` or `out_of_memory` where the kernel gives no memory file.
    explicit host_backend(const host_options& options = {})
        : host_backend{host::open(options).value(), options} {}

    host_backend(const host_backend&) = delete;
    host_backend& operator=(const host_backend&) = delete;

    ~host_backend() {
        ranges_.for_each_reservation(
            [this](address where, bytes size) { static_cast<void>(kernel_.release_addresses(where, size)); });
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
        const address where = host::reserve_addresses(size, align);
        if (where.is_null())
            return refuse(errc::out_of_addresses, verb::reserve, size, errno);
        if (const errc refusal = ranges_.add_reservation(where, size); refusal != errc::ok) {
            host::release_addresses(where, size);
            return refuse(refusal, verb::reserve, size);
        }
        reserved_ += size;
        return where;
    }

    [[nodiscard]] status release(address where, bytes size) noexcept {
        const std::lock_guard lock{mutex_};
        if (const errc refusal = ranges_.check_release(where, size); refusal != errc::ok)
            return refuse(refusal, verb::release, size);
        if (const int native = kernel_.release_addresses(where, size); native != 0)
            return refuse(errc::native_failure, verb::release, size, native);
        ranges_.remove_reservation(where);
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
        return chunks_.create(size);
    }

    [[nodiscard]] status destroy(host_chunk chunk) noexcept {
        const std::lock_guard lock{mutex_};
        if (chunks_.size_of(chunk) == bytes{0})
            return refuse(errc::unknown_chunk, verb::destroy, bytes{0});
        chunks_.destroy(chunk);
        return {};
    }

    [[nodiscard]] status map(address where, host_chunk chunk) noexcept {
        const std::lock_guard lock{mutex_};
        const bytes size = chunks_.size_of(chunk);
        if (size == bytes{0})
            return refuse(errc::unknown_chunk, verb::map, bytes{0});
        if (!is_whole(where))
            return refuse(errc::misaligned, verb::map, size);
        if (const errc refusal = ranges_.add_mapping(where, size, chunk.index); refusal != errc::ok)
            return refuse(refusal, verb::map, size);
        chunks_.add_mapping(chunk.index);
        mapped_ += size;
        return {};
    }

    [[nodiscard]] status set_access(address where, bytes size, access_mode allowed) noexcept {
        if (size == bytes{0} || allowed > access_mode::read_write)
            return refuse(errc::invalid_argument, verb::set_access, size);
        if (!is_whole(size) || !is_whole(where))
            return refuse(errc::misaligned, verb::set_access, size);
        const std::lock_guard lock{mutex_};
        const auto covered = ranges_.cover(where, size);
        if (covered.refusal != errc::ok)
            return refuse(covered.refusal, verb::set_access, size);
        if (const int native = kernel_.apply(covered, chunks_, allowed); native != 0) {
            kernel_.restore(covered); // the kernel may have changed some of the mappings before it gave up
            return refuse(errc::too_many_mappings, verb::set_access, size, native);
        }
        for (auto entry = covered.first; entry; entry = covered.after(entry)) {
            entry->installed = entry->installed || allowed != access_mode::none;
            entry->allowed = allowed;
        }
        return {};
    }

    [[nodiscard]] status unmap(address where, bytes size) noexcept {
        if (size == bytes{0})
            return refuse(errc::invalid_argument, verb::unmap, size);
        if (!is_whole(size) || !is_whole(where))
            return refuse(errc::misaligned, verb::unmap, size);
        const std::lock_guard lock{mutex_};
        const auto covered = ranges_.cover(where, size);
        if (covered.refusal != errc::ok)
            return refuse(covered.refusal, verb::unmap, size);
        if (const int native = kernel_.make_reserved(where, size); native != 0)
            return refuse(errc::too_many_mappings, verb::unmap, size, native);
        ranges_.remove(covered, [this](std::uint32_t chunk) { chunks_.drop_mapping(chunk); });
        mapped_ -= size;
        return {};
    }

    // ---- refinements ----

    [[nodiscard]] bool can_alias() const noexcept { return true; }
    [[nodiscard]] bool host_visible() const noexcept { return true; }

    /// As it was asked for: what a chunk is decides whether it can be handed out, and that is decided first.
    [[nodiscard]] bool can_export() const noexcept { return chunks_.has_own_files(); }

    /// A second descriptor of the chunk's memory file, for `import_chunk` of any host backend of this
    /// machine. Whoever has it may read and write the chunk, and may empty it. An imported chunk can be
    /// exported again. `limit_exceeded` where the process may open no more descriptors.
    [[nodiscard]] result<os_handle> export_chunk(host_chunk chunk) noexcept {
        const std::lock_guard lock{mutex_};
        const bytes size = chunks_.size_of(chunk);
        if (size == bytes{0})
            return refuse(errc::unknown_chunk, verb::export_chunk, bytes{0});
        if (!can_export())
            return refuse(errc::unsupported, verb::export_chunk, size);
        file_descriptor handed_out{::fcntl(chunks_.place_of(chunk.index).file, F_DUPFD_CLOEXEC, 0)};
        if (!handed_out)
            return refuse(errc::limit_exceeded, verb::export_chunk, size, errno);
        return os_handle{std::move(handed_out)};
    }

    /// A chunk over the memory of another process's chunk, on any host backend, exportable or not. It counts
    /// in `imported_bytes`, and in no figure of created memory. The handle is examined as
    /// `host::check_chunk_file` says, and closed where it is refused.
    [[nodiscard]] result<host_chunk> import_chunk(os_handle handle, bytes size) noexcept {
        if (size == bytes{0})
            return refuse(errc::invalid_argument, verb::import_chunk, size);
        if (!is_whole(size))
            return refuse(errc::misaligned, verb::import_chunk, size);
        file_descriptor file = handle.take_descriptor();
        if (const status outcome = host::check_chunk_file(file.number(), size, granularity_); !outcome)
            return outcome;
        const std::lock_guard lock{mutex_};
        return chunks_.import_file(std::move(file), size);
    }

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
        return ranges_.mapping_count();
    }
    /// Physical bytes created and not yet returned, by our own count.
    [[nodiscard]] bytes physical_bytes() const noexcept {
        const std::lock_guard lock{mutex_};
        return chunks_.created();
    }
    /// The same by the kernel's count of the memory files. Equal to `physical_bytes()` but for what the
    /// kernel rounds, and for what other processes do to chunks that were exported to them.
    [[nodiscard]] bytes kernel_physical_bytes() const noexcept {
        const std::lock_guard lock{mutex_};
        return chunks_.resident();
    }
    /// Bytes of imported chunks that were not yet returned: other backends' memory, kept alive by this one.
    [[nodiscard]] bytes imported_bytes() const noexcept {
        const std::lock_guard lock{mutex_};
        return chunks_.imported();
    }
    [[nodiscard]] bytes capacity() const noexcept { return chunks_.capacity(); }
    [[nodiscard]] const huge_page_report& huge_pages() const noexcept { return huge_pages_; }

    /// One line for a person: pages, granularity, capacity, sharing.
    [[nodiscard]] std::string describe() const {
        std::string text = "host memory, granularity " + to_string(granularity_) + ", capacity " +
                           to_string(capacity()) + ", huge pages ";
        return text.append(huge_pages_.reason).append(can_export() ? ", exportable" : ", not exportable");
    }

  private:
    host_backend(host::opened&& found, const host_options& options)
        : granularity_{found.granularity},
          huge_pages_{found.pages.report},
          chunks_{found.capacity, found.pages.flags, std::move(found.shared)},
          ranges_{options.max_mappings == 0 ? std::numeric_limits<std::size_t>::max()
                                            : options.max_mappings} {}

    static error refuse(errc code, verb where, bytes size, int native = 0) noexcept {
        return error{code, where, native, size};
    }
    /// The granularity is a power of two: no verb divides by it.
    [[nodiscard]] bool is_whole(bytes size) const noexcept {
        return (size.count() & (granularity_.count() - 1)) == 0;
    }
    [[nodiscard]] bool is_whole(address where) const noexcept { return is_whole(where - address{}); }

    bytes granularity_;
    huge_page_report huge_pages_;

    mutable std::mutex mutex_;
    host::chunk_table chunks_;
    host::kernel_mappings kernel_;
    detail::range_table ranges_;
    bytes reserved_{};
    bytes mapped_{};
};

static_assert(backend<host_backend>);
static_assert(aliasing_backend<host_backend>);
static_assert(host_visible_backend<host_backend>);
static_assert(exportable_backend<host_backend>);

} // namespace vtensor
