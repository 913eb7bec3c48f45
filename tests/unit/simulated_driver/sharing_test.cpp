// SPDX-License-Identifier: Apache-2.0
#include "scene.hpp"

#include <support/death.hpp>

#include <array>
#include <cstring>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

constexpr int posix = 1;
constexpr int fabric = 8;

void* as_value(int file) { return simulated::object_of<void*>(static_cast<std::uint64_t>(file)); }

/// Sends a descriptor through a socket, or receives one: -1 where none came.
void send_descriptor(int socket, int file) {
    std::array<char, CMSG_SPACE(sizeof(int))> control{};
    char byte = 0;
    iovec content{&byte, 1};
    msghdr message{};
    message.msg_iov = &content;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof file);
    std::memcpy(CMSG_DATA(header), &file, sizeof file);
    ::sendmsg(socket, &message, 0);
}
int receive_descriptor(int socket) {
    std::array<char, CMSG_SPACE(sizeof(int))> control{};
    char byte = 0;
    iovec content{&byte, 1};
    msghdr message{};
    message.msg_iov = &content;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    if (::recvmsg(socket, &message, 0) != 1 || CMSG_FIRSTHDR(&message) == nullptr)
        return -1;
    int file = -1;
    std::memcpy(&file, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof file);
    return file;
}

/// In a process of its own: imports, looks for 42 at the memory's start, writes 43 to its end. 0 where all of
/// that worked.
template <class Names>
int use_imported(void* given, int type) {
    machine_options options;
    options.sharing.fabric_supported = true;
    typename Names::machine machine{options};
    const auto call = machine.driver();
    typename Names::driver::handle made{};
    typename Names::driver::pointer where{};
    const typename Names::access_desc wish{{1, 0}, 3};
    if (call.init(0) != 0 || call.mem_import_from_shareable_handle(&made, given, type) != 0)
        return 1;
    if (call.mem_address_reserve(&where, page, 0, {}, 0) != 0 || call.mem_map(where, page, 0, made, 0) != 0 ||
        call.mem_set_access(where, page, &wish, 1) != 0 || call.mem_release(made) != 0)
        return 2;
    auto* const bytes = reinterpret_cast<unsigned char*>(simulated::number_of(where));
    if (bytes[0] != 42)
        return 3;
    bytes[page - 1] = 43;
    return machine.physical_bytes() == 0 ? 0 : 4; // the exporter pays
}

} // namespace

TEMPLATE_TEST_CASE("two processes share memory by a descriptor", "[simulated]", cuda_names, hip_names) {
    int sockets[2] = {};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    const auto importer = [&] {
        // The child was made before the memory: it has nothing but what comes through the socket.
        const int file = receive_descriptor(sockets[1]);
        const int outcome = file < 0 ? 9 : use_imported<TestType>(as_value(file), posix);
        ::close(file);
        ::_exit(outcome);
    };
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0)
        importer();

    scene<TestType> s;
    const std::uintptr_t where = s.reserve(page);
    const auto memory = s.create(page, s.properties(0, posix));
    s.map(where, memory);
    REQUIRE(s.grant(where, page) == code::success);
    *s.bytes_at(where) = std::byte{42};
    int file = -1;
    REQUIRE(s.call.mem_export_to_shareable_handle(&file, memory, posix, 0) == code::success);
    send_descriptor(sockets[0], file);
    ::close(file);
    int ended = -1;
    REQUIRE(::waitpid(child, &ended, 0) == child);
    CHECK(WEXITSTATUS(ended) == 0);
    CHECK(WIFEXITED(ended));
    CHECK(*s.bytes_at(where + page - 1) == std::byte{43});
    for (const int socket : sockets)
        ::close(socket);
}

TEMPLATE_TEST_CASE("two processes share memory by a fabric handle", "[simulated]", cuda_names, hip_names) {
    machine_options options;
    options.sharing.fabric_supported = true;
    scene<TestType> s{options};
    const std::uintptr_t where = s.reserve(page);
    const auto memory = s.create(page, s.properties(0, fabric));
    s.map(where, memory);
    REQUIRE(s.grant(where, page) == code::success);
    *s.bytes_at(where) = std::byte{42};
    std::array<unsigned char, 64> handle{};
    REQUIRE(s.call.mem_export_to_shareable_handle(handle.data(), memory, fabric, 0) == code::success);
    const child_end end = run_in_child([&] {
        s.call.mem_release(memory); // refused: a driver does not survive a fork
        ::_exit(use_imported<TestType>(handle.data(), fabric));
    });
    CHECK(end.signal == 0);
    CHECK(end.code == 0);
    CHECK(*s.bytes_at(where + page - 1) == std::byte{43});

    typename scene<TestType>::handle made{};
    handle[0] ^= 1;
    CHECK(s.call.mem_import_from_shareable_handle(&made, handle.data(), fabric) == code::invalid_value);
    CHECK(s.call.mem_import_from_shareable_handle(&made, nullptr, fabric) == code::invalid_value);
}

TEMPLATE_TEST_CASE("the types of handles are fixed at creation", "[simulated]", cuda_names, hip_names) {
    scene<TestType> s;
    std::array<unsigned char, 64> place{};
    const auto plain = s.create();
    CHECK(s.call.mem_export_to_shareable_handle(place.data(), plain, posix, 0) == code::invalid_value);
    const auto memory = s.create(page, s.properties(0, posix));
    CHECK(s.call.mem_export_to_shareable_handle(place.data(), memory, fabric, 0) == code::invalid_value);
    CHECK(s.call.mem_export_to_shareable_handle(place.data(), memory, 0, 0) == code::invalid_value);
    CHECK(s.call.mem_export_to_shareable_handle(place.data(), memory, posix, 1) == code::invalid_value);
    CHECK(s.call.mem_export_to_shareable_handle(nullptr, memory, posix, 0) == code::invalid_value);
    typename scene<TestType>::handle made{};
    const auto both = s.properties(0, posix | fabric);
    CHECK(s.call.mem_create(&made, page, &both, 0) == code::not_supported);
    const auto windows = s.properties(0, 2);
    CHECK(s.call.mem_create(&made, page, &windows, 0) == code::invalid_value);
}

TEMPLATE_TEST_CASE("unsupported handle types and flags are refused at creation, or only later", "[simulated]",
                   cuda_names, hip_names) {
    std::array<unsigned char, 64> place{};
    typename scene<TestType>::handle made{};
    machine_options options;
    options.sharing.posix_supported = false;
    {
        scene<TestType> s{options};
        const auto with = s.properties(0, posix);
        CHECK(s.call.mem_create(&made, page, &with, 0) == code::not_supported);
        CHECK(s.call.mem_import_from_shareable_handle(&made, as_value(0), posix) == code::not_supported);
        CHECK(s.call.mem_import_from_shareable_handle(&made, place.data(), fabric) == code::not_supported);
        const auto rdma = s.properties(0, 0, true);
        CHECK(s.call.mem_create(&made, page, &rdma, 0) == code::not_supported);
    }
    options.sharing = {};
    options.sharing.posix_export_fails = true;
    options.sharing.fabric_supported = true;
    options.sharing.fabric_export_fails = true;
    options.sharing.rdma_supported = true;
    {
        scene<TestType> s{options};
        const auto memory = s.create(page, s.properties(0, posix | fabric, true));
        CHECK(s.call.mem_export_to_shareable_handle(place.data(), memory, posix, 0) == code::not_supported);
        CHECK(s.call.mem_export_to_shareable_handle(place.data(), memory, fabric, 0) == code::not_supported);
    }
    options.sharing.rdma_create_fails = true;
    {
        scene<TestType> s{options};
        const auto rdma = s.properties(0, 0, true);
        CHECK(s.call.mem_create(&made, page, &rdma, 0) == code::not_supported);
    }
}

TEMPLATE_TEST_CASE("import takes memory of the simulation only, of the type it was made for", "[simulated]",
                   cuda_names, hip_names) {
    machine_options options;
    options.sharing.fabric_supported = true;
    scene<TestType> s{options};
    typename scene<TestType>::handle made{};
    const auto import = [&](int file) {
        return s.call.mem_import_from_shareable_handle(&made, as_value(file), posix);
    };
    const int nothing = ::open("/dev/null", O_RDONLY);
    const int foreign = ::memfd_create("something-else", 0);
    REQUIRE(::ftruncate(foreign, static_cast<off_t>(page)) == 0);
    CHECK(import(nothing) == code::invalid_value);
    CHECK(import(foreign) == code::invalid_value);
    CHECK(import(987'654) == code::invalid_value);
    CHECK(s.call.mem_import_from_shareable_handle(nullptr, as_value(foreign), posix) == code::invalid_value);
    CHECK(s.call.mem_import_from_shareable_handle(&made, as_value(foreign), 2) == code::invalid_value);
    ::close(nothing);
    ::close(foreign);
    // A file as the simulation makes it, for the other type of handle, and for this one.
    for (const char* const name : {"vtensor-simulated-0-8-0", "vtensor-simulated-0-1-0"}) {
        const int made_here = ::memfd_create(name, 0);
        REQUIRE(::ftruncate(made_here, static_cast<off_t>(page)) == 0);
        CHECK((import(made_here) == code::success) == (name[20] == '1'));
        ::close(made_here);
    }
    // Not even the address of a descriptor, which some HIP runtimes want.
    const auto memory = s.create(page, s.properties(0, posix));
    int file = -1;
    REQUIRE(s.call.mem_export_to_shareable_handle(&file, memory, posix, 0) == code::success);
    CHECK(s.call.mem_import_from_shareable_handle(&made, &file, posix) == code::invalid_value);
    CHECK(import(file) == code::success);
    ::close(file);
}

TEMPLATE_TEST_CASE("memory lives until its exported descriptors are closed", "[simulated]", cuda_names,
                   hip_names) {
    machine_options options;
    options.capacity = page;
    scene<TestType> s{options};
    const auto with = s.properties(0, posix);
    const auto memory = s.create(page, with);
    int file = -1;
    REQUIRE(s.call.mem_export_to_shareable_handle(&file, memory, posix, 0) == code::success);
    REQUIRE(s.call.mem_release(memory) == code::success);
    CHECK(s.machine.physical_bytes() == page);
    CHECK(s.machine.leaks().exported_memories == 1);
    typename scene<TestType>::handle made{};
    CHECK(s.call.mem_create(&made, page, &with, 0) == code::out_of_memory);
    ::close(file);
    CHECK(s.machine.physical_bytes() == 0);
    CHECK(s.machine.leaks().exported_memories == 0);
    CHECK(s.call.mem_create(&made, page, &with, 0) == code::success);
}

TEMPLATE_TEST_CASE("memory imported into its own process is the same memory under another handle",
                   "[simulated]", cuda_names, hip_names) {
    scene<TestType> s;
    const auto memory = s.create(page, s.properties(0, posix));
    int file = -1;
    REQUIRE(s.call.mem_export_to_shareable_handle(&file, memory, posix, 0) == code::success);
    typename scene<TestType>::handle made{};
    REQUIRE(s.call.mem_import_from_shareable_handle(&made, as_value(file), posix) == code::success);
    ::close(file);
    CHECK(made != memory);
    CHECK(s.machine.physical_bytes() == page);
    const std::uintptr_t where = s.reserve(2 * page);
    s.map(where, memory);
    s.map(where + page, made);
    REQUIRE(s.grant(where, 2 * page) == code::success);
    *s.bytes_at(where) = std::byte{9};
    CHECK(*s.bytes_at(where + page) == std::byte{9});
    CHECK(s.call.mem_release(memory) == code::success);
    CHECK(s.call.mem_release(made) == code::success);
    CHECK(s.unmap(where, 2 * page) == code::success);
    CHECK(s.free(where, 2 * page) == code::success);
    CHECK(s.empty());
}
