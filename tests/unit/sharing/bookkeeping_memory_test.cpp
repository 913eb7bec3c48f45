// SPDX-License-Identifier: Apache-2.0
//
// Sharing and copy-on-write with each allocation failing in turn: nothing has changed, and the next attempt
// works.
#include "support/catch.hpp"
#include "support/failing_new.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/policy/eviction/by_caller.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

using namespace vtensor;
using testing::failing_new;

namespace {

using tensor = virtual_tensor<int, host_backend, growth::exact, eviction::by_caller>;

struct scene {
    scene() {
        const auto rows = source.append(50); // 5,000 bytes a row
        for (std::size_t row = 0; row < 50; ++row)
            rows(row, 0) = static_cast<int>(row);
        source.evict(std::vector<slot_type>{0, 3, 7, 20, 44, 49});
    }
    [[nodiscard]] std::string figures(const tensor& other) const {
        const chunk_pool_stats stats = pool.stats();
        return std::to_string(other.rows()) + " rows, in use " + to_string(stats.in_use) + ", created " +
               to_string(stats.created) + ", aliases " + std::to_string(stats.aliases) + ", shared " +
               to_string(source.shared_bytes()) + ", mappings " + std::to_string(backend.mapping_count()) +
               ", reserved " + to_string(backend.reserved_bytes());
    }

    host_backend backend;
    chunk_pool<host_backend> pool{backend};
    tensor source{pool, {1250}, 100};
};

/// Runs `operation(scene, other)` on fresh tensors until no allocation fails. How many there are.
template <class Make, class Operation>
std::size_t allocations_in(Make make, Operation operation) {
    for (std::size_t k = 1; k < 10'000; ++k) {
        scene now;
        tensor other = make(now);
        const std::string before = now.figures(other);
        failing_new::fail(k);
        const status outcome = operation(now, other);
        const std::size_t failures = failing_new::disarm();
        INFO("allocation " << k);
        if (failures == 0) {
            REQUIRE(outcome.ok());
            return k - 1;
        }
        if (!outcome) {
            CHECK(outcome.code() == errc::out_of_memory);
            CHECK(now.figures(other) == before);
            CHECK((now.source.verify() && other.verify() && now.pool.verify()));
            REQUIRE(operation(now, other));
        }
        CHECK((now.source.verify() && other.verify() && now.pool.verify()));
        CHECK(now.source.view()(44, 0) == 44);
    }
    return 0;
}

tensor empty(scene& now) { return tensor{now.pool, {1250}, 100}; }
tensor forked(scene& now) { return now.source.fork(); }
tensor filled(scene& now) {
    tensor made = empty(now);
    const auto rows = made.append(50);
    for (std::size_t row = 0; row < 50; ++row)
        rows(row, 0) = static_cast<int>(row);
    return made;
}

} // namespace

TEST_CASE("sharing without memory for book-keeping changes nothing") {
    CHECK(allocations_in(empty, [](scene& now, tensor& other) {
              return other.try_share_prefix_of(now.source, 45);
          }) >= 5);
    CHECK(allocations_in(empty, [](scene& now, tensor& other) {
              auto made = now.source.try_fork();
              if (made)
                  other = *std::move(made);
              return made.status();
          }) >= 6);
}

TEST_CASE("merging equal rows without memory for book-keeping changes nothing") {
    CHECK(allocations_in(filled, [](scene& now, tensor& other) {
              const status outcome = other.try_merge_prefix_of(now.source, 45);
              CHECK(other.view()(44, 0) == 44);
              return outcome;
          }) >= 10);
}

TEST_CASE("making pages writable without memory for book-keeping changes nothing") {
    CHECK(allocations_in(forked, [](scene&, tensor& other) { return other.try_make_writable(10, 20); }) >= 8);
    const auto shortened = [](scene& now) {
        tensor other = now.source.fork();
        other.truncate(20);
        return other;
    };
    CHECK(allocations_in(shortened, [](scene&, tensor& other) {
              return other.rows() > 20 ? status{} : other.try_append(40).status();
          }) >= 8);
}
