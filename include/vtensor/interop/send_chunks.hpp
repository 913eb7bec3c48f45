// SPDX-License-Identifier: Apache-2.0
//
// Gives another process of this machine the memory of chunks, by their handles over a Unix socket; the other
// end is receive_chunks.hpp. It sends no content, and gives nothing up: the chunks stay this process's too.
#pragma once

#include <vtensor/backends/os/handle.hpp>
#include <vtensor/backends/os/unix_socket.hpp>
#include <vtensor/interop/chunk_message.hpp>
#include <vtensor/interop/shareable_backend.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

namespace vtensor::interop {

namespace detail {

/// Exports the chunks into one message and sends it.
template <shareable_backend Backend>
[[nodiscard]] status send_part(unix_socket& to, Backend& backend,
                               std::span<const typename Backend::chunk_type> part, chunk_message header,
                               wait_deadline until) noexcept {
    std::array<os_handle, chunk_message::max_count> handles; // open until the message is on its way
    std::array<int, chunk_message::max_count> descriptors;
    std::array<std::byte, chunk_message::max_size> content;
    for (std::size_t index = 0; index < part.size(); ++index) {
        auto made = backend.export_chunk(part[index]);
        if (!made)
            return made.error();
        handles[index] = *std::move(made);
        const os_handle& handle = handles[index];
        if (handle.kind() == os_handle_kind::none || handle.kind() != handles[0].kind())
            return error{errc::foreign_handle, verb::send, 0, header.chunk_size};
        descriptors[index] = handle.descriptor();
        if (const fabric_handle* const name = handle.fabric())
            std::copy(name->data.begin(), name->data.end(),
                      content.begin() +
                          static_cast<std::ptrdiff_t>(chunk_message::header_size + index * sizeof *name));
    }
    header.kind = handles[0].kind();
    header.count = static_cast<std::uint32_t>(part.size());
    const auto encoded = header.encode();
    std::copy(encoded.begin(), encoded.end(), content.begin());
    const std::size_t carried = header.kind == os_handle_kind::descriptor ? part.size() : 0;
    return to.send(std::span{content}.first(chunk_message::header_size + header.payload_size()),
                   std::span{descriptors}.first(carried), until);
}

} // namespace detail

/// Sends the handles of `chunks`, each of `chunk_size` bytes, in their order. Returns when the system has
/// taken them, not when they have been received. Descriptors under way keep the memory alive, even where this
/// process destroys its chunks or ends; fabric handles are only names, so the chunks must stay until the
/// other end says that it has received them.
///
/// `invalid_argument` where there are no chunks or the size is 0, `misaligned` where it is no multiple of the
/// granularity, what `export_chunk` says, and of the socket `disconnected`, `timed_out` (the other end makes
/// no room before `until`) and `limit_exceeded`. A failure changes nothing on this side, but where a part was
/// already sent (more than 253 chunks) the connection is closed, so that the other end gives that part back.
template <shareable_backend Backend>
[[nodiscard]] status send_chunks(unix_socket& to, Backend& backend,
                                 std::span<const typename Backend::chunk_type> chunks, bytes chunk_size,
                                 wait_deadline until) noexcept {
    if (chunks.empty() || chunks.size() > std::numeric_limits<std::uint32_t>::max() || chunk_size == bytes{0})
        return error{errc::invalid_argument, verb::send, 0, chunk_size};
    if (chunk_size % backend.granularity() != bytes{0})
        return error{errc::misaligned, verb::send, 0, chunk_size};
    chunk_message header;
    header.chunk_size = chunk_size;
    header.total = static_cast<std::uint32_t>(chunks.size());
    for (std::size_t first = 0; first < chunks.size(); first += chunk_message::max_count) {
        const auto part = chunks.subspan(first, std::min(chunk_message::max_count, chunks.size() - first));
        header.first = static_cast<std::uint32_t>(first);
        if (const status outcome = detail::send_part(to, backend, part, header, until); !outcome) {
            if (first != 0)
                to = unix_socket{};
            return outcome;
        }
    }
    return {};
}

} // namespace vtensor::interop
