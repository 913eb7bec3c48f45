// SPDX-License-Identifier: Apache-2.0
//
// The manager on simulated devices, whose memory the CPU does not reach: what cannot be copied is not
// matched, and with a stream everything can. The machine's memory is this process's, so that rows can be
// compared.
#include "engine.hpp"

#include <conformance/device_fixtures.hpp>
#include <support/fault_loop.hpp>
#include <support/simulated_streams.hpp>

#include <vtensor/kv/per_head_cache.hpp>

#include <tuple>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

constexpr bytes page = 16_KiB;
constexpr std::size_t row_bytes = 2 * 16 * sizeof(float); // both heads of an engine

struct on_cuda {
    using machine_type = simulated_cuda;
    using backend_type = cuda_backend;
    static simulated::machine_options machine() {
        return {.minimum_granularity = page.count(), .recommended_granularity = page.count()};
    }
    static cuda_options options(const machine_type& on) { return {.driver = on.driver()}; }
};
struct on_hip : hip_device_in_pieces {
    using machine_type = simulated_hip;
};
template <class Device>
struct whole_layers : Device {
    using layer_type = kv::per_layer_cache<float, typename Device::backend_type, growth::exact, std::mutex>;
    static constexpr std::size_t tokens_of_pages(bytes size) { return size.count() / row_bytes; }
};
template <class Device>
struct single_heads : Device {
    using layer_type = kv::per_head_cache<float, typename Device::backend_type, growth::exact, std::mutex>;
    static constexpr std::size_t tokens_of_pages(bytes size) { return size.count() / (row_bytes / 2); }
};
template <class Setup>
struct scene : conformance::clean_machine<typename Setup::machine_type> {
    using base = conformance::clean_machine<typename Setup::machine_type>;
    using engine_type = engine<typename Setup::layer_type>;

    scene() : base{Setup::machine()} {}

    typename Setup::backend_type memory{Setup::options(base::machine)};
    typename engine_type::pool_type pool{memory, {}};
    engine_type now{pool};
};

using setups =
    std::tuple<whole_layers<on_cuda>, single_heads<on_cuda>, whole_layers<on_hip>, single_heads<on_hip>>;

} // namespace

TEMPLATE_LIST_TEST_CASE("On a device a prefix is matched as far as whole pages reach", "[device]", setups) {
    scene<TestType> device;
    auto& now = device.now;
    const std::size_t of_pages = TestType::tokens_of_pages(device.pool.chunk_size());
    const std::size_t common = 2 * of_pages + 7;
    REQUIRE(of_pages > 0);
    const auto first = now.create(text(common + 20)).value().id;
    REQUIRE(now.manager->try_record(first));
    const bytes alone = device.pool.stats().in_use;

    const auto second = now.create(joined(text(common), text(9, 2))).value();
    CHECK(second.matched == 2 * of_pages);
    // Its own are the pages with the rest, one of three in each tensor.
    CHECK((device.pool.stats().in_use - alone) * 3 <= alone);
    const auto third = now.create(joined(text(of_pages - 1), text(9, 3))).value();
    CHECK(third.matched == 0); // not one page
    now.require_same();

    // It goes on, and it continues a conversation as it is, to the token.
    REQUIRE(now.extend(second.id, text(30, 4)));
    now.require_same();
    const auto whole = now.sequences.at(second.id).tokens;
    REQUIRE(now.manager->try_record(second.id));
    REQUIRE(now.release(second.id));
    const auto next = now.create(joined(whole, text(5, 5))).value();
    CHECK(next.matched == whole.size());
    now.require_same();
    CHECK(now.manager->verify());
    CHECK(now.manager->try_fork(next.id).status().code() == errc::unsupported); // a part page
    now.require_same();
}

TEMPLATE_LIST_TEST_CASE("With a stream a device's prefixes are matched to the token and forked anywhere",
                        "[device]", setups) {
    scene<TestType> device;
    auto& now = device.now;
    const typename decltype(device.memory)::stream_type of_default{};
    now.manager->set_stream(of_default);
    const std::size_t common = 2 * TestType::tokens_of_pages(device.pool.chunk_size()) + 7;
    const auto first = now.create(text(common + 20)).value().id;
    REQUIRE(now.manager->try_record(first));
    const auto second = now.create(joined(text(common), text(9, 2))).value();
    CHECK(second.matched == common);
    now.require_same();
    const auto copy = now.fork(second.id).value();
    REQUIRE(now.extend(copy, text(3, 3)));
    REQUIRE(now.extend(second.id, text(3, 4)));
    now.require_same();
    REQUIRE(now.overwrite(copy, 1, 2, 5)); // on a page that three have
    now.require_same();
    CHECK(now.manager->verify());
}

TEMPLATE_LIST_TEST_CASE("A driver that fails under a fork on a stream leaves both sequences as they were",
                        "[device]", setups) {
    scene<TestType> device;
    auto& now = device.now;
    now.manager->set_stream(typename decltype(device.memory)::stream_type{});
    const auto parent = now.create(text(TestType::tokens_of_pages(device.pool.chunk_size()) + 5)).value().id;
    simulated::driver_faults faults{device.machine, simulated::code::unknown};
    const auto look = [&] {
        CHECK(now.manager->verify());
        now.require_same();
    };
    std::vector<kv::sequence_id> made;
    const std::size_t failures = for_each_failing_call(
        faults,
        [&] {
            const auto forked = now.fork(parent);
            if (forked)
                made.push_back(*forked);
            return forked.ok();
        },
        [&](std::size_t) { look(); },
        [&] {
            look();
            REQUIRE(now.release(made.back()));
        },
        errc::native_failure);
    CHECK(failures > 5);
    look();
    REQUIRE(now.extend(made.back(), text(2, 9)));
    look();
}
