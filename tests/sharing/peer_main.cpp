// SPDX-License-Identifier: Apache-2.0
//
// The other process of sharing_test.cpp. It is told by its words where to connect and what to be, and ends
// with 0 where all was as it must be, with 1 and a sentence where not.
#include "shared_set.hpp"
#include "support/kernel_figures.hpp"
#include "support/proc_maps.hpp"

#include <vtensor/interop/receive_chunks.hpp>
#include <vtensor/interop/send_chunks.hpp>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string_view>

#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

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
void import_from(unix_socket& other) {
    host_backend backend;
    const std::size_t descriptors = open_descriptors();
    shared_chunks chunks;
    const auto count = interop::receive_chunks<host_backend>(other, backend, chunks, shared_size, soon());
    expect(count.ok() && *count == shared_count, "the chunks arrive");
    expect(backend.imported_bytes() == shared_total && backend.physical_bytes() == 0_B,
           "they count as imported");
    {
        shared_set seen{backend, chunks};
        expect(seen.holds(1), "they hold what the exporter wrote");
        seen.fill(2);
        expect(say(other, 'w'), "the exporter listens"); // written
        expect(hear(other) == 'g', "it says when to go on");
        expect(seen.holds(2), "they hold what was written here, whoever gave them up meanwhile");
        expect(kernel_memory_file_bytes() == shared_total, "the kernel counts their memory");
    }
    for (const host_chunk chunk : chunks)
        expect(backend.destroy(chunk).ok(), "they are given up");
    expect(kernel_memory_file_bytes() == 0_B && open_descriptors() == descriptors && memory_file_lines() == 0,
           "nothing of them is left here");
    expect(say(other, 'f'), "the exporter hears of it"); // freed
    expect(hear(other) == '\0', "it hangs up");
}

/// Sends chunks that hold pattern 1. Where `harm` is set it does to them what it can, and tells.
void export_to(unix_socket& other, bool harm) {
    host_backend backend{{.exportable = true}};
    shared_chunks chunks;
    for (host_chunk& chunk : chunks)
        chunk = backend.create(shared_size).value();
    shared_set mine{backend, chunks};
    mine.fill(1);
    throw_if_failed(interop::send_chunks<host_backend>(other, backend, chunks, shared_size, soon()));
    expect(hear(other) == 'g', "the importer says when to go on");
    for (std::size_t index = 0; harm && index < shared_count; ++index) {
        const os_handle handle = backend.export_chunk(chunks[index]).value();
        expect(::ftruncate(handle.descriptor(), 0) != 0, "a chunk cannot be cut");
        expect(::fallocate(handle.descriptor(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                           static_cast<off_t>(shared_size.count())) == 0,
               "a chunk can be emptied");
    }
    expect(say(other, 'h'), "the importer hears of it");
    expect(hear(other) == '\0', "it hangs up, or kills");
}

} // namespace

int main(int count, char** words) {
    expect(count == 3, "two words: a path and a role");
    const std::string_view role = words[2];
    try {
        unix_socket other = unix_socket::connect(words[1], soon()).value();
        if (role == "import")
            import_from(other);
        else
            export_to(other, role == "harm");
    } catch (const std::exception& failure) {
        expect(false, failure.what());
    }
}
