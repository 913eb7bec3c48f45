// SPDX-License-Identifier: Apache-2.0
// Verbs do not throw: where there is no memory for their own book-keeping they fail with out_of_memory, and
// nothing has changed. Each allocation of each verb is made to fail once.
#include <conformance/fixture.hpp>
#include <support/catch.hpp>
#include <support/failing_new.hpp>
#include <support/kernel_figures.hpp>
#include <support/proc_maps.hpp>

#include <vtensor/adaptors/counting.hpp>
#include <vtensor/adaptors/failing.hpp>
#include <vtensor/adaptors/limiting.hpp>
#include <vtensor/adaptors/tracing.hpp>
#include <vtensor/backends/host.hpp>

#include <tuple>

namespace vtensor::conformance {
namespace {

using testing::failing_new;

struct plain {
    host_backend host;
    host_backend& top = host;
};
struct exportable {
    host_backend host{{.exportable = true}};
    host_backend& top = host;
};
struct counted {
    host_backend host;
    adaptors::counting<host_backend> top{host};
};
struct limited {
    host_backend host;
    adaptors::limiting<host_backend> top{host, 1_GiB};
};
struct stacked {
    host_backend host{{.exportable = true}};
    adaptors::counting<host_backend> first{host};
    adaptors::limiting<adaptors::counting<host_backend>> second{first, 1_GiB};
    adaptors::failing<decltype(second)> top{second};
};
using stacks = std::tuple<plain, exportable, counted, limited, stacked>;

struct figures {
    bytes reserved;
    bytes mapped;
    bytes physical;
    bytes imported;
    bytes kernel;
    std::size_t descriptors;
    friend bool operator==(const figures&, const figures&) = default;
};
figures figures_of(const host_backend& host) {
    return {host.reserved_bytes(),
            host.mapped_bytes(),
            host.physical_bytes(),
            host.imported_bytes(),
            testing::kernel_memory_file_bytes(),
            testing::open_descriptors()};
}

/// Runs `verb_call` with its allocation 1, 2, 3, ... failing until none is left to fail: the outcome of the
/// run that met no failure. Adds up in `failed` how many runs did.
template <class Call>
auto with_each_allocation_failing(const host_backend& host, std::size_t& failed, Call verb_call) {
    const figures before = figures_of(host);
    for (std::size_t k = 1;; ++k) {
        failing_new::fail(k);
        auto outcome = verb_call();
        if (failing_new::disarm() == 0) {
            REQUIRE(ended(outcome) == "ok");
            return outcome;
        }
        ++failed;
        INFO("allocation " << k << " failed: " << ended(outcome));
        REQUIRE(outcome.code() == errc::out_of_memory);
        REQUIRE(figures_of(host) == before);
    }
}

TEMPLATE_LIST_TEST_CASE("a verb without memory for its book-keeping fails and changes nothing",
                        "[conformance]", stacks) {
    TestType stack;
    auto& backend = stack.top;
    const figures nothing = figures_of(stack.host);
    std::size_t failed = 0;
    const auto each = [&](auto call) { return with_each_allocation_failing(stack.host, failed, call); };

    for (int round = 0; round < 3; ++round) { // the first one grows tables that the others find grown
        const auto where = each([&] { return backend.reserve(64_KiB, 32_KiB); });
        const auto chunk = each([&] { return backend.create(8_KiB); });
        const auto other = each([&] { return backend.create(16_KiB); });
        CHECK(each([&] { return backend.map(*where, *chunk); }).ok());
        CHECK(each([&] { return backend.map(*where + 8_KiB, *other); }).ok());
        CHECK(each([&] { return backend.set_access(*where, 24_KiB, access_mode::read_write); }).ok());
        CHECK(failed > 0);

        // Giving back needs no memory: it must not fail for want of it.
        const std::size_t failed_taking = failed;
        CHECK(each([&] { return backend.destroy(*chunk); }).ok());
        CHECK(each([&] { return backend.unmap(*where, 24_KiB); }).ok());
        CHECK(each([&] { return backend.destroy(*other); }).ok());
        CHECK(each([&] { return backend.release(*where, 64_KiB); }).ok());
        CHECK(failed == failed_taking);
        CHECK(figures_of(stack.host) == nothing);
    }
}

TEMPLATE_LIST_TEST_CASE("importing without memory for the book-keeping fails, and the handle is closed",
                        "[conformance]", stacks) {
    TestType stack;
    auto& backend = stack.top;
    host_backend elsewhere{{.exportable = true}};
    const auto chunk = *elsewhere.create(8_KiB);
    const std::size_t descriptors = testing::open_descriptors();
    std::size_t failed = 0;
    for (int round = 0; round < 100; ++round) { // more than the tables hold at first
        INFO("round " << round);
        const auto imported = with_each_allocation_failing(
            stack.host, failed, [&] { return backend.import_chunk(*elsewhere.export_chunk(chunk), 8_KiB); });
        CHECK(stack.host.imported_bytes() == 8_KiB * static_cast<std::size_t>(round + 1));
        static_cast<void>(imported);
    }
    CHECK(failed > 0);
    CHECK(testing::open_descriptors() == descriptors + 100);
}

TEST_CASE("a trace that has no memory for an event drops it, and the verb works all the same") {
    host_backend host;
    adaptors::memory_sink sink;
    adaptors::tracing traced{host, sink};
    const auto where = traced.reserve(64_KiB, 0_B);
    REQUIRE(where.ok());

    // Until the sink wants to grow.
    std::size_t dropped = 0;
    for (int call = 0; call < 64 && dropped == 0; ++call) {
        failing_new::fail(1);
        const status outcome =
            traced.set_access(*where, 4_KiB, access_mode::read); // refused: allocates nothing
        const std::size_t failures = failing_new::disarm();
        CHECK(outcome.code() == errc::not_mapped);
        CHECK(sink.dropped() == failures);
        dropped = sink.dropped();
    }
    CHECK(dropped == 1);
    CHECK(traced.release(*where, 64_KiB).ok());
}

} // namespace
} // namespace vtensor::conformance
