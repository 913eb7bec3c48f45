// SPDX-License-Identifier: Apache-2.0
//
// Every operation of a tensor with its backend calls failing, one after another, under every growth policy
// and with every code. After each failure the rows, their content, the library's figures and the kernel's are
// what they were, and the next attempt works.
#include "support/catch.hpp"
#include "support/error_codes.hpp"
#include "support/fault_loop.hpp"
#include "support/proc_maps.hpp"
#include "support/sanitizers.hpp"

#include <vtensor/adaptors/failing.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <mutex>
#include <optional>
#include <string>
#include <vector>

using namespace vtensor;
using vtensor::adaptors::failing;
using vtensor::testing::every_error_code;
using vtensor::testing::fault_length;
using vtensor::testing::for_each_failing_call;
using vtensor::testing::kernel_range;

namespace {

using failing_host = failing<host_backend>;
using pool_type = chunk_pool<failing_host, std::mutex>;
template <class Growth>
using tensor_on = virtual_tensor<int, failing_host, Growth, eviction::keep_all, std::mutex>;

constexpr std::size_t row_ints = 256; // 1 KiB: four rows a page
constexpr std::size_t max_rows = 200;

/// What must not change.
struct figures {
    const int* data = nullptr;
    tensor_stats tensor{};
    std::size_t mapped_rows = 0;
    bytes kernel_mapped{};
    bytes kernel_accessible{};
    bytes in_use{};
    bytes created{};
    bytes reserved{};
    std::size_t mappings = 0;

    [[nodiscard]] std::string text() const {
        return std::to_string(tensor.rows) + " rows, mapped " + to_string(tensor.mapped) + ", kernel " +
               to_string(kernel_mapped) + " accessible " + to_string(kernel_accessible) + ", in use " +
               to_string(in_use) + ", created " + to_string(created) + ", reserved " + to_string(reserved) +
               ", mappings " + std::to_string(mappings);
    }
};

template <class Growth>
class scene {
  public:
    static constexpr bool looks_ahead = look_ahead_policy<Growth>;
    using tensor_type = tensor_on<Growth>;

    scene() = default;
    explicit scene(std::size_t rows) { build(rows); }

    [[nodiscard]] result<tensor_type> create() {
        if constexpr (looks_ahead)
            return tensor_type::try_create(pool, thread, {row_ints}, max_rows);
        else
            return tensor_type::try_create(pool, {row_ints}, max_rows);
    }
    void build(std::size_t rows) {
        auto made = create();
        REQUIRE(made);
        held.emplace(*std::move(made));
        set(rows);
    }
    /// `rows` rows with their own content and nothing mapped beyond them.
    void set(std::size_t rows) {
        held->resize(rows);
        thread.drain();
        held->trim();
        for (std::size_t row = 0; row < rows; ++row) {
            for (std::size_t column = 0; column < row_ints; ++column)
                held->view()(row, column) = value(row, column);
        }
    }
    [[nodiscard]] figures now() const {
        const auto kernel = kernel_range(address{held->data()}, held->reserved_bytes());
        return {held->data(),         held->stats(),         held->mapped_rows(),
                kernel.memory_file,   kernel.accessible,     pool.stats().in_use,
                pool.stats().created, host.reserved_bytes(), host.mapping_count()};
    }
    void check_same(const figures& before) const {
        const figures after = now();
        CHECK(after.data == before.data);
        CHECK(after.text() == before.text());
        CHECK(after.mapped_rows == before.mapped_rows);
        CHECK(after.tensor.mapped == after.kernel_mapped);
        CHECK(held->verify());
        CHECK(pool.verify());
        CHECK(pool.stats().created == host.kernel_physical_bytes());
        CHECK(host.kernel_physical_bytes() == host.physical_bytes());
        check_content(before.tensor.rows);
    }
    void check_content(std::size_t rows) const {
        std::size_t wrong = 0;
        const auto view = std::as_const(*held).view();
        for (std::size_t row = 0; row < rows; ++row) {
            for (std::size_t column = 0; column < row_ints; ++column)
                wrong += view(row, column) != value(row, column) ? 1u : 0u;
        }
        CHECK(wrong == 0);
    }

    host_backend host;
    failing_host backend{host};
    pool_type pool{backend};
    mapper thread;
    std::optional<tensor_type> held;

  private:
    static int value(std::size_t row, std::size_t column) {
        return static_cast<int>(row * 1009 + column * 7 + 1);
    }
};

/// Runs the fault loop for one operation from a state of `rows` rows. `prepare` brings the state about,
/// `operate` is the operation. Returns how many runs met a failure.
template <class Growth, class Prepare, class Operate>
std::size_t loop(Prepare prepare, Operate operate, errc code, fault_length length) {
    scene<Growth> faulty;
    faulty.build(0);
    prepare(faulty);
    const figures before = faulty.now();
    status last;
    const auto run = [&] {
        last = operate(*faulty.held);
        faulty.thread.drain(); // where pages are mapped ahead, its calls are part of the operation
        return last.ok();
    };
    const auto restore = [&] { prepare(faulty); };
    return for_each_failing_call(
        faulty.backend, run,
        [&](std::size_t) {
            CHECK(last.code() == code);
            faulty.check_same(before);
            REQUIRE(run());
            CHECK(faulty.held->verify());
            restore();
            faulty.check_same(before);
        },
        restore, code, length);
}

/// Every code, or under a sanitizer those that the library treats differently.
std::vector<errc> codes() {
    if (vtensor::testing::any_sanitizer)
        return {errc::out_of_memory, errc::limit_exceeded, errc::too_many_mappings, errc::native_failure};
    return every_error_code();
}

/// The same for every code and with and without a failing undo. Returns the fewest failures met.
template <class Growth, class Prepare, class Operate>
std::size_t every_loop(Prepare prepare, Operate operate) {
    std::size_t fewest = ~std::size_t{0};
    for (const errc code : codes()) {
        for (const fault_length length : {fault_length::one, fault_length::with_undo}) {
            INFO("failing with " << name(code) << ", calls in a row: " << static_cast<std::size_t>(length));
            fewest = std::min(fewest, loop<Growth>(prepare, operate, code, length));
        }
    }
    return fewest;
}

/// Ten rows on three pages; the pool empty, so that growth creates chunks.
constexpr auto ten_rows = [](auto& faulty) {
    faulty.set(10);
    REQUIRE(faulty.pool.trim());
};

} // namespace

TEMPLATE_TEST_CASE("growing a tensor is all or nothing whichever backend call fails", "", growth::exact,
                   growth::fixed<3>, (growth::geometric<3, 2>), growth::look_ahead<2>) {
    // To 34 rows on nine pages: six creates, six maps and a set_access at the least.
    const std::size_t calls = 13;
    SECTION("append") {
        CHECK(every_loop<TestType>(ten_rows, [](auto& tensor) { return tensor.try_append(24).status(); }) >=
              calls);
    }
    SECTION("resize") {
        CHECK(every_loop<TestType>(ten_rows, [](auto& tensor) { return tensor.try_resize(34); }) >= calls);
    }
    SECTION("prepare") {
        CHECK(every_loop<TestType>(ten_rows, [](auto& tensor) { return tensor.try_prepare(34); }) >= calls);
    }
    SECTION("append on chunks that the pool has") {
        const auto with_free_chunks = [](auto& faulty) {
            faulty.set(10);
            REQUIRE(faulty.pool.prefill(40));
        };
        CHECK(every_loop<TestType>(with_free_chunks,
                                   [](auto& tensor) { return tensor.try_append(24).status(); }) >= 7);
    }
    SECTION("the first append") {
        const auto nothing = [](auto& faulty) {
            faulty.set(0);
            REQUIRE(faulty.pool.trim());
        };
        CHECK(every_loop<TestType>(nothing, [](auto& tensor) { return tensor.try_append(5).status(); }) >= 5);
    }
}

TEMPLATE_TEST_CASE("shrinking a tensor is all or nothing whichever backend call fails", "", growth::exact,
                   growth::fixed<3>, (growth::geometric<3, 2>), growth::look_ahead<2>) {
    const auto forty_rows = [](auto& faulty) { faulty.set(40); };
    SECTION("resize") {
        CHECK(every_loop<TestType>(forty_rows, [](auto& tensor) { return tensor.try_resize(3); }) == 1);
    }
    SECTION("resize to nothing") {
        CHECK(every_loop<TestType>(forty_rows, [](auto& tensor) { return tensor.try_resize(0); }) == 1);
    }
    SECTION("trim") {
        const auto prepared = [](auto& faulty) {
            faulty.set(10);
            faulty.held->prepare(100);
            faulty.thread.drain();
        };
        CHECK(every_loop<TestType>(prepared, [](auto& tensor) { return tensor.try_trim(); }) == 1);
    }
}

TEMPLATE_TEST_CASE("a tensor that cannot be made leaves nothing behind", "", growth::exact,
                   growth::look_ahead<2>) {
    for (const errc code : every_error_code()) {
        scene<TestType> faulty;
        errc last = errc::ok;
        const std::size_t failed = for_each_failing_call(
            faulty.backend,
            [&] {
                auto made = faulty.create();
                last = made.code();
                if (made)
                    faulty.held.emplace(*std::move(made));
                return made.ok();
            },
            [&](std::size_t) {
                CHECK(last == code);
                CHECK(faulty.host.reserved_bytes() == 0_B);
                CHECK(faulty.host.physical_bytes() == 0_B);
            },
            code);
        CHECK(failed == 1);
        CHECK(faulty.host.reserved_bytes() == faulty.held->reserved_bytes());
    }
}

TEMPLATE_TEST_CASE("a tensor that goes gives everything back although each backend call fails once", "",
                   growth::exact, growth::fixed<3>, (growth::geometric<3, 2>), growth::look_ahead<2>) {
    std::size_t failures = 1;
    std::size_t loops = 0;
    for (std::size_t k = 1; failures != 0; ++k, ++loops) {
        REQUIRE(k < 100);
        scene<TestType> faulty{30};
        const address start{faulty.held->data()};
        const bytes size = faulty.held->reserved_bytes();
        faulty.backend.fail_call(k, errc::native_failure);
        faulty.held.reset();
        failures = faulty.backend.failures();
        faulty.backend.disarm();
        CHECK(faulty.host.reserved_bytes() == 0_B);
        CHECK(faulty.host.mapped_bytes() == 0_B);
        CHECK(faulty.pool.stats().in_use == 0_B);
        CHECK(kernel_range(start, size).covered() == 0_B);
        REQUIRE(faulty.pool.trim());
        CHECK(faulty.host.kernel_physical_bytes() == 0_B);
    }
    CHECK(loops == 3); // the unmapping, the release, and the loop that met no failure
}

TEMPLATE_TEST_CASE("assigning over a tensor frees its memory although each backend call fails once", "",
                   growth::exact, growth::look_ahead<2>) {
    for (std::size_t k = 1; k <= 3; ++k) {
        scene<TestType> faulty{30};
        auto next = faulty.create();
        REQUIRE(next);
        faulty.backend.fail_call(k, errc::native_failure);
        *faulty.held = *std::move(next);
        faulty.backend.disarm();
        CHECK(faulty.host.reserved_bytes() == faulty.held->reserved_bytes());
        CHECK(faulty.host.mapped_bytes() == 0_B);
        CHECK(faulty.pool.stats().in_use == 0_B);
        CHECK(faulty.held->try_resize(4));
    }
}

TEST_CASE("the throwing operations throw what the failing call said") {
    scene<growth::exact> faulty{4};
    const auto thrown = [&](errc code, auto operation) {
        faulty.backend.fail_from(1, code);
        try {
            operation(*faulty.held);
        } catch (const failure& caught) {
            faulty.backend.disarm();
            return caught.error();
        }
        faulty.backend.disarm();
        return error{};
    };
    const error grown = thrown(errc::out_of_memory, [](auto& tensor) { tensor.append(100); });
    CHECK(grown.code == errc::out_of_memory);
    CHECK(grown.where == verb::create);
    CHECK(grown.size == 4_KiB);
    CHECK(thrown(errc::too_many_mappings, [](auto& tensor) { tensor.resize(0); }).where == verb::unmap);
    faulty.held->prepare(100);
    CHECK(thrown(errc::native_failure, [](auto& tensor) { tensor.trim(); }).code == errc::native_failure);
    faulty.backend.fail_from(1, errc::out_of_memory);
    CHECK_THROWS_AS(faulty.held->prepare(200), out_of_memory);
    faulty.backend.fail_from(1, errc::native_failure);
    CHECK_THROWS_AS(faulty.held->resize(200), backend_failure);
    faulty.backend.disarm();
    CHECK(faulty.held->rows() == 4);
    faulty.check_content(4);
}
