// SPDX-License-Identifier: Apache-2.0
//
// The other process of two_process_test.cpp. It is told by its words where to connect and what to be, and
// ends with 0 where all was as it must be, with 1 and a sentence where not.
#include "shared_chunks.hpp"

#include <vtensor/interop/receive_chunks.hpp>
#include <vtensor/interop/send_chunks.hpp>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string_view>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

void expect(bool holds, const char* what) {
    if (holds)
        return;
    std::fprintf(stderr, "peer: not so: %s\n", what);
    std::exit(1);
}

/// Receives chunks that hold pattern 1, writes pattern 2, and gives them up when it is told so.
void import_from(unix_socket& other, cuda_backend& backend, const gpu_stream& stream) {
    gpu_shared_chunks chunks;
    const auto count = interop::receive_chunks<cuda_backend>(other, backend, chunks, gpu_shared_size, soon());
    expect(count.ok() && *count == gpu_shared_count, "the chunks arrive");
    {
        const gpu_shared_set seen{backend, chunks};
        expect(seen.holds(stream, 1), "they hold what the exporter wrote");
        seen.fill(stream, 2);
        expect(say(other, 'w'), "the exporter listens"); // written
        expect(hear(other) == 'g', "it says when to go on");
        expect(seen.holds(stream, 2), "they hold what was written here, whoever gave them up meanwhile");
    }
    for (const device_chunk chunk : chunks)
        expect(backend.destroy(chunk).ok(), "they are given up");
    expect(say(other, 'f'), "the exporter hears of it"); // freed
    expect(hear(other) == '\0', "it hangs up");
}

/// Sends chunks that hold pattern 1, and waits to be killed.
void export_to(unix_socket& other, cuda_backend& backend, const gpu_stream& stream) {
    gpu_shared_chunks chunks;
    for (device_chunk& chunk : chunks)
        chunk = backend.create(gpu_shared_size).value();
    const gpu_shared_set mine{backend, chunks};
    mine.fill(stream, 1);
    throw_if_failed(interop::send_chunks<cuda_backend>(other, backend, chunks, gpu_shared_size, soon()));
    expect(hear(other) == '\0', "the other one kills, or hangs up");
}

} // namespace

int main(int count, char** words) {
    expect(count == 3, "two words: a path and a role");
    const std::string_view role = words[2];
    try {
        unix_socket other = unix_socket::connect(words[1], soon()).value();
        cuda_backend backend{sharing_options()};
        const gpu_stream stream;
        expect(gpu_free_memory() > bytes{0}, "the device has memory");
        expect(say(other, 'r'), "the other one listens"); // ready
        if (role == "import")
            import_from(other, backend, stream);
        else
            export_to(other, backend, stream);
    } catch (const std::exception& failure) {
        expect(false, failure.what());
    }
}
