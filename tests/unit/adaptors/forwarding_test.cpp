// SPDX-License-Identifier: Apache-2.0
#include "fake_device.hpp"

#include <support/catch.hpp>
#include <support/reference_backend.hpp>

#include <vtensor/adaptors/counting.hpp>
#include <vtensor/adaptors/failing.hpp>
#include <vtensor/adaptors/limiting.hpp>
#include <vtensor/adaptors/tracing.hpp>
#include <vtensor/backends/host.hpp>

#include <limits>
#include <tuple>

namespace vtensor::testing {
namespace {

constexpr bytes no_limit{std::numeric_limits<std::size_t>::max()};

struct counted {
    adaptors::counting<fake_device> top;
    explicit counted(fake_device& device) : top{device} {}
};
struct limited {
    adaptors::limiting<fake_device> top;
    explicit limited(fake_device& device) : top{device, no_limit} {}
};
struct failing {
    adaptors::failing<fake_device> top;
    explicit failing(fake_device& device) : top{device} {}
};
struct traced {
    adaptors::memory_sink sink;
    adaptors::tracing<fake_device, adaptors::memory_sink> top;
    explicit traced(fake_device& device) : top{device, sink} {}
};
using every_adaptor = std::tuple<counted, limited, failing, traced>;

/// Whether an adaptor models just the refinements that its upstream models.
template <class Adapted, class Upstream>
constexpr bool refines_alike =
    backend<Adapted>&& aliasing_backend<Adapted> ==
    aliasing_backend<Upstream>&& host_visible_backend<Adapted> ==
    host_visible_backend<Upstream>&& stream_ordered_backend<Adapted> ==
    stream_ordered_backend<Upstream>&& exportable_backend<Adapted> ==
    exportable_backend<Upstream>&& peer_access_backend<Adapted> == peer_access_backend<Upstream>;

template <class Upstream>
constexpr bool all_refine_alike = refines_alike<adaptors::counting<Upstream>, Upstream>&& refines_alike<
    adaptors::limiting<Upstream>, Upstream>&& refines_alike<adaptors::failing<Upstream>, Upstream>&&
    refines_alike<adaptors::tracing<Upstream, adaptors::memory_sink>, Upstream>&&
        refines_alike<adaptors::failing<adaptors::limiting<adaptors::counting<Upstream>>>, Upstream>;

static_assert(all_refine_alike<fake_device>);
static_assert(all_refine_alike<host_backend>);
static_assert(all_refine_alike<reference_backend>);

TEMPLATE_LIST_TEST_CASE("an adaptor forwards every verb with its arguments and returns what came back",
                        "[adaptors]", every_adaptor) {
    fake_device device;
    TestType made{device};
    auto& top = made.top;

    CHECK(top.granularity() == 64_KiB);
    CHECK_FALSE(top.can_alias());
    CHECK_FALSE(top.host_visible());
    CHECK(top.can_export());
    CHECK(top.can_reach(3));
    CHECK_FALSE(top.can_reach(4));
    CHECK(&top.upstream() == &device);

    const address where{std::uintptr_t{4096}};
    CHECK(*top.reserve(128_KiB, 64_KiB) == where);
    const auto chunk = *top.create(64_KiB);
    CHECK(chunk == padded_chunk{1, 'c'});
    CHECK(top.map(where, chunk).ok());
    CHECK(top.set_access(where, 64_KiB, access_mode::read).ok());
    CHECK(top.create_event()->number == 5);
    CHECK(top.record({5}, {6}).ok());
    CHECK(*top.query({5}));
    CHECK(top.wait(typename fake_device::event_type{5}).ok());
    CHECK(top.wait({6}, {5}).ok());
    CHECK(top.copy(where, where + 1_KiB, 7_B, {6}).ok());
    CHECK(top.fill(where, std::byte{9}, 8_B, {6}).ok());
    CHECK(top.destroy_event({5}).ok());
    auto handle = top.export_chunk(chunk);
    REQUIRE(handle.ok());
    const auto imported = top.import_chunk(*std::move(handle), 64_KiB);
    CHECK(*imported == padded_chunk{101, 'i'});
    CHECK(top.set_peer_access(where, 64_KiB, access_mode::read_write, 3).ok());
    CHECK(top.unmap(where, 64_KiB).ok());
    CHECK(top.destroy(chunk).ok());
    CHECK(top.destroy(*imported).ok());
    CHECK(top.release(where, 128_KiB).ok());

    CHECK(device.asked() == std::vector<std::string>{
                                "reserve 131072 65536", "create 65536", "map 4096 1",
                                "set_access 4096 65536 1", "create_event", "record 5 6", "query 5", "wait 5",
                                "wait 6 5", "copy 4096 5120 7 6", "fill 4096 9 8 6", "destroy_event 5",
                                "export_chunk 1", "import_chunk 1 65536", "set_peer_access 4096 65536 2 3",
                                "unmap 4096 65536", "destroy 1", "destroy 101", "release 4096 131072"});
}

TEMPLATE_LIST_TEST_CASE("an adaptor returns a failure of the upstream as it is", "[adaptors]",
                        every_adaptor) {
    fake_device device;
    TestType made{device};
    auto& top = made.top;
    const auto chunk = *top.create(64_KiB);
    const error broken{errc::native_failure, verb::wait, 719, 3_KiB};
    device.break_down(broken);

    const address where{std::uintptr_t{4096}};
    CHECK(top.reserve(64_KiB, 0_B).error() == broken);
    CHECK(top.release(where, 64_KiB).error() == broken);
    CHECK(top.create(64_KiB).error() == broken);
    CHECK(top.destroy(chunk).error() == broken);
    CHECK(top.map(where, chunk).error() == broken);
    CHECK(top.set_access(where, 64_KiB, access_mode::none).error() == broken);
    CHECK(top.unmap(where, 64_KiB).error() == broken);
    CHECK(top.create_event().error() == broken);
    CHECK(top.destroy_event({5}).error() == broken);
    CHECK(top.record({5}, {6}).error() == broken);
    CHECK(top.query({5}).error() == broken);
    CHECK(top.wait(typename fake_device::event_type{5}).error() == broken);
    CHECK(top.wait({6}, {5}).error() == broken);
    CHECK(top.copy(where, where, 7_B, {6}).error() == broken);
    CHECK(top.fill(where, std::byte{9}, 8_B, {6}).error() == broken);
    CHECK(top.export_chunk(chunk).error() == broken);
    CHECK(top.import_chunk(fake_handle{std::make_unique<int>(1)}, 64_KiB).error() == broken);
    CHECK(top.set_peer_access(where, 64_KiB, access_mode::read_write, 3).error() == broken);
    CHECK(device.asked().size() == 19);
}

TEST_CASE("an adaptor over an adaptor of its own kind wraps it") {
    fake_device device;
    adaptors::counting inner{device};
    adaptors::counting outer{inner};
    STATIC_REQUIRE(std::is_same_v<decltype(outer), adaptors::counting<adaptors::counting<fake_device>>>);
    adaptors::failing first{device};
    adaptors::failing second{first};
    STATIC_REQUIRE(std::is_same_v<decltype(second), adaptors::failing<adaptors::failing<fake_device>>>);
    static_cast<void>(outer.create(64_KiB));
    CHECK(inner.snapshot() == outer.snapshot());
}

} // namespace
} // namespace vtensor::testing
