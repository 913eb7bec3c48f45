// SPDX-License-Identifier: Apache-2.0
//
// Takes the chunks that another process gives by send_chunks.hpp. Nothing that the other process says is
// believed: the receiver says what it expects, and the backend examines every handle.
#pragma once

#include <vtensor/backends/os/handle.hpp>
#include <vtensor/backends/os/unix_socket.hpp>
#include <vtensor/interop/chunk_message.hpp>
#include <vtensor/interop/shareable_backend.hpp>

#include <array>
#include <cstddef>
#include <span>
#include <utility>

namespace vtensor::interop {

namespace detail {

/// Imports chunks one after the other, and gives them back unless told that all is well.
template <shareable_backend Backend>
class imported_chunks {
  public:
    using chunk_type = typename Backend::chunk_type;

    imported_chunks(Backend& backend, std::span<chunk_type> into) noexcept
        : backend_{&backend}, into_{into} {}
    imported_chunks(const imported_chunks&) = delete;
    imported_chunks& operator=(const imported_chunks&) = delete;
    ~imported_chunks() {
        for (std::size_t index = 0; index < count_; ++index) {
            if (backend_->destroy(into_[index]) || backend_->destroy(into_[index]))
                into_[index] = chunk_type{};
        }
    }

    [[nodiscard]] status add(os_handle handle, bytes size) noexcept {
        auto made = backend_->import_chunk(std::move(handle), size);
        if (made)
            into_[count_++] = *made;
        return made.status();
    }
    [[nodiscard]] std::size_t count() const noexcept { return count_; }
    void keep() noexcept { count_ = 0; }

  private:
    Backend* backend_;
    std::span<chunk_type> into_;
    std::size_t count_ = 0;
};

/// Receives one message and imports what is in it. `total` is the number of chunks to come, 0 before the
/// first message. `consumed` tells whether a message was taken off the connection.
template <shareable_backend Backend>
[[nodiscard]] status receive_part(unix_socket& from, imported_chunks<Backend>& imported, std::size_t limit,
                                  bytes chunk_size, wait_deadline until, std::size_t& total,
                                  bool& consumed) noexcept {
    std::array<file_descriptor, chunk_message::max_count> descriptors; // closes what is not imported
    std::array<std::byte, chunk_message::max_size> buffer;
    const auto got = from.receive(buffer, descriptors, until);
    consumed = consumed || got.ok() || got.code() != errc::timed_out;
    if (!got)
        return got.status();
    const auto content = std::span<const std::byte>{buffer}.first(got->size);
    const auto header = chunk_message::parse(content, got->descriptors);
    if (!header)
        return header.status();
    if (header->first != imported.count() || (total != 0 && header->total != total))
        return error{errc::malformed_message, verb::receive, 0, bytes{content.size()}};
    if (header->chunk_size != chunk_size)
        return error{errc::size_mismatch, verb::receive, 0, header->chunk_size};
    if (header->total > limit)
        return error{errc::limit_exceeded, verb::receive, 0, bytes{}};
    total = header->total;
    for (std::size_t index = 0; index < header->count; ++index) {
        os_handle handle = header->kind == os_handle_kind::fabric
                               ? os_handle{chunk_message::fabric_at(content, index)}
                               : os_handle{std::move(descriptors[index])};
        if (const status outcome = imported.add(std::move(handle), chunk_size); !outcome)
            return outcome;
    }
    return {};
}

} // namespace detail

/// Receives what one `send_chunks` sent: up to `into.size()` chunks of exactly `chunk_size` bytes, in the
/// sender's order. Returns how many. They are destroyed like chunks that were created here; the memory goes
/// when every process has given it up. What is in it is the other process's word, now and later.
///
/// `invalid_argument` where `into` is empty or the size is 0, `timed_out`, `disconnected`,
/// `malformed_message`, `size_mismatch` where the sender's chunks have another size, `limit_exceeded` where
/// they are more than expected or this process may not open that many descriptors, and what `import_chunk`
/// says of the handles. All or nothing: after a failure no chunk is left, `into` holds default values where
/// it was written (a chunk that the backend refuses twice to destroy stays there), and the connection is
/// closed, unless it is `timed_out` and nothing had come yet or an argument was refused.
template <shareable_backend Backend>
[[nodiscard]] result<std::size_t> receive_chunks(unix_socket& from, Backend& backend,
                                                 std::span<typename Backend::chunk_type> into,
                                                 bytes chunk_size, wait_deadline until) noexcept {
    if (into.empty() || chunk_size == bytes{0})
        return error{errc::invalid_argument, verb::receive, 0, chunk_size};
    detail::imported_chunks<Backend> imported{backend, into};
    std::size_t total = 0;
    bool consumed = false;
    do {
        if (const status outcome =
                detail::receive_part(from, imported, into.size(), chunk_size, until, total, consumed);
            !outcome) {
            if (consumed)
                from = unix_socket{};
            return outcome;
        }
    } while (imported.count() < total);
    imported.keep();
    return total;
}

} // namespace vtensor::interop
