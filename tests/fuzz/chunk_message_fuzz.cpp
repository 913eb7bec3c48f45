// SPDX-License-Identifier: Apache-2.0
//
// Any bytes with any number of descriptors as a message that carries chunks: refused, or read as what it
// would be written as. Received, it is all or nothing: no chunk and no descriptor is left of what is refused.
#include "unit/interop/fake_fabric.hpp"

#include <vtensor/backends/os/unix_socket.hpp>
#include <vtensor/interop/chunk_message.hpp>
#include <vtensor/interop/receive_chunks.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

using namespace vtensor;
using interop::chunk_message;

namespace {

void require(bool holds) {
    if (!holds)
        std::abort();
}

/// The lowest number that a descriptor opened now would get: it rises where one is left open.
int lowest_free() { return file_descriptor{::open("/dev/null", O_RDONLY | O_CLOEXEC)}.number(); }

void try_parse(std::span<const std::byte> content, std::size_t descriptors) {
    const auto header = chunk_message::parse(content, descriptors);
    require(header.ok() || header.code() == errc::malformed_message);
    if (!header)
        return;
    require(header->sound() && content.size() == chunk_message::header_size + header->payload_size());
    const auto encoded = header->encode();
    require(std::equal(encoded.begin(), encoded.end(), content.begin()));
    for (std::size_t index = 0; index * sizeof(fabric_handle) < header->payload_size(); ++index)
        (void)chunk_message::fabric_at(content, index);
}

void try_receive(std::span<const std::byte> content, std::size_t descriptors) {
    const int before = lowest_free();
    {
        auto ends = unix_socket::pair().value();
        const file_descriptor file{::memfd_create("chunk 5", MFD_CLOEXEC)};
        require(::ftruncate(file.number(), 5) == 0);
        const std::vector<int> numbers(descriptors, file.number());
        if (!ends.first.send(content, numbers, within(std::chrono::seconds{1})))
            return; // empty, or longer than the kernel takes
        ends.first = unix_socket{};
        testing::fake_fabric backend;
        std::array<int, 400> chunks{};
        const int connected = lowest_free();
        const auto got = interop::receive_chunks<testing::fake_fabric>(ends.second, backend, chunks, 64_KiB,
                                                                       within(std::chrono::seconds{1}));
        require(got.ok() == static_cast<bool>(ends.second.descriptor()));
        if (!got) {
            require(backend.held() == 0);
            require(std::all_of(chunks.begin(), chunks.end(), [](int chunk) { return chunk == 0; }));
        } else {
            require(lowest_free() == connected);
        }
    }
    require(lowest_free() == before);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0)
        return 0;
    const std::size_t descriptors = data[0] % 254; // the first byte says how many come with the rest
    const std::span content{reinterpret_cast<const std::byte*>(data) + 1, size - 1};
    try_parse(content, descriptors);
    try_receive(content, descriptors);
    return 0;
}
