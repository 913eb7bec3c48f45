// SPDX-License-Identifier: Apache-2.0
//
// Sharing and copy-on-write with their backend calls failing, one after another, on host memory and behind
// streams: after each failure nothing has changed in either tensor, the next attempt works, and nothing is
// leaked.
#include "support/failing_memory.hpp"
#include "support/fault_loop.hpp"
#include "support/proc_maps.hpp"
#include "support/sanitizers.hpp"
#include "unit/defrag/world.hpp"

#include <vtensor/adaptors/failing.hpp>
#include <vtensor/backends/host.hpp>

#include <functional>
#include <optional>
#include <string>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

constexpr std::size_t all_rows = 75; // of 1,000 bytes: 18 whole pages and a part; of 1,024 the same
constexpr std::uint32_t written = 3; // the salt of what is written after sharing

/// Two tensors, the second with the rows of the first or without any.
template <class Place>
struct scene {
    using backend_type = typename Place::backend_type;
    using tensor_type = evicting_tensor<backend_type>;

    std::size_t row = 1000; ///< bytes
    Place place;
    chunk_pool<backend_type> pool{place.backend};
    std::optional<tensor_type> source;
    std::optional<tensor_type> other;

    void set(bool shared) {
        source.reset();
        other.reset();
        collect();
        REQUIRE(pool.trim());
        source.emplace(pool, row_shape{row}, 100);
        REQUIRE(append_filled(*source, all_rows));
        other.emplace(pool, row_shape{row}, 100);
        if (shared)
            REQUIRE(other->try_share_prefix_of(*source, all_rows));
    }
    void collect() {
        place.finish();
        if constexpr (stream_ordered_backend<backend_type>)
            REQUIRE(pool.retiring().drain());
    }
    [[nodiscard]] std::string figures() const {
        const auto of = [](const std::optional<tensor_type>& tensor) {
            if (!tensor)
                return std::string{"none"};
            const auto kernel = kernel_range(address{tensor->data()}, tensor->reserved_bytes());
            return std::to_string(tensor->rows()) + " rows, mapped " + to_string(tensor->mapped_bytes()) +
                   ", kernel " + to_string(kernel.memory_file) + " writable " + to_string(kernel.accessible) +
                   ", shared " + to_string(tensor->shared_bytes());
        };
        const chunk_pool_stats stats = pool.stats();
        return of(source) + "; " + of(other) + "; in use " + to_string(stats.in_use) + ", created " +
               to_string(stats.created) + ", aliases " + std::to_string(stats.aliases) + ", mappings " +
               std::to_string(place.host.mapping_count()) + ", reserved " +
               to_string(place.host.reserved_bytes());
    }
    void write(tensor_type& tensor, std::size_t first, std::size_t last) {
        const auto view = tensor.view();
        for (std::size_t slot = first; slot < last; ++slot) {
            for (std::size_t column = 0; column < view.extents[1]; ++column)
                view(slot, column) = byte_of(static_cast<position_type>(slot), column, written);
        }
    }
    [[nodiscard]] static std::size_t wrong(const tensor_type& tensor, std::size_t first, std::size_t last,
                                           std::uint32_t salt) {
        const auto view = tensor.view();
        std::size_t count = 0;
        for (std::size_t slot = first; slot < last; ++slot) {
            for (std::size_t column = 0; column < view.extents[1]; ++column)
                count += view(slot, column) != byte_of(static_cast<position_type>(slot), column, salt);
        }
        return count;
    }
    void check_sound() {
        place.finish();
        place.check_sound();
        CHECK(pool.verify());
        CHECK((!source || (source->verify() && wrong_bytes(*source) == 0)));
        CHECK((!other || other->verify()));
        CHECK(place.host.kernel_physical_bytes() == pool.stats().created);
    }
};

/// Fails every call of `operation(scene)` in turn. `set` brings the scene into its state before, `check`
/// looks at the state after a success. Returns how many calls there are.
template <class Place, class Set, class Operation, class Check>
std::size_t loop(Set set, Operation operation, Check check, errc code, fault_length length) {
    scene<Place> faulty;
    set(faulty);
    const std::string before = faulty.figures();
    status last;
    const auto run = [&] {
        last = operation(faulty);
        faulty.place.finish();
        return last.ok();
    };
    const auto restore = [&] {
        set(faulty);
        REQUIRE(faulty.figures() == before);
    };
    const std::size_t calls = for_each_failing_call(
        faulty.place.backend, run,
        [&](std::size_t) {
            CHECK(last.code() == code);
            CHECK(faulty.figures() == before);
            CHECK((!faulty.other || wrong_bytes(*faulty.other) == 0));
            faulty.check_sound();
            REQUIRE(run());
            faulty.check_sound();
            check(faulty);
            restore();
        },
        [&] { // what is given back at the end is tried more than once
            faulty.check_sound();
            check(faulty);
            restore();
        },
        code, length);
    faulty.check_sound();
    check(faulty);
    faulty.source.reset();
    faulty.other.reset();
    faulty.collect();
    CHECK(faulty.pool.stats().in_use == 0_B);
    CHECK(faulty.place.host.reserved_bytes() == 0_B);
    CHECK(faulty.place.host.mapping_count() == 0);
    return calls;
}

template <class Place, class Set, class Operation, class Check>
void every_loop(std::size_t least_calls, Set set, Operation operation, Check check) {
    for (const errc code : {errc::out_of_memory, errc::native_failure}) {
        if (any_sanitizer && code == errc::out_of_memory)
            continue; // the calls are the same
        for (const fault_length length : {fault_length::one, fault_length::with_undo}) {
            INFO(name(code) << ", calls in a row: " << static_cast<std::size_t>(length));
            CHECK(loop<Place>(set, operation, check, code, length) >= least_calls);
        }
    }
}

constexpr sharing::map_all map_all{};

} // namespace

TEMPLATE_TEST_CASE("sharing a prefix is all or nothing in both tensors whichever call fails", "", on_host,
                   on_stream) {
    every_loop<TestType>(
        17 + 3 + 1, [](auto& now) { now.set(false); },
        [](auto& now) {
            return now.place.behind([&](const auto&... stream) {
                return now.other->try_share_prefix_of(*now.source, 71, map_all, stream...);
            });
        },
        [](auto& now) {
            CHECK(now.other->rows() == 71);
            CHECK(wrong_bytes(*now.other) == 0);
            CHECK(now.other->shared_bytes() == 17 * 4_KiB);
        });
}

TEMPLATE_TEST_CASE("a prefix that is copied is all or nothing whichever call fails", "", on_host, on_stream) {
    every_loop<TestType>(
        18 + 1, [](auto& now) { now.set(false); },
        [](auto& now) {
            return now.place.behind([&](const auto&... stream) {
                return now.other->try_share_prefix_of(*now.source, 71, sharing::copy_all{}, stream...);
            });
        },
        [](auto& now) {
            CHECK(wrong_bytes(*now.other) == 0);
            CHECK(now.other->shared_bytes() == 0_B);
        });
}

TEMPLATE_TEST_CASE("forking is all or nothing whichever call fails", "", on_host, on_stream) {
    every_loop<TestType>(
        18 + 4,
        [](auto& now) {
            now.set(false);
            now.other.reset();
        },
        [](auto& now) -> status {
            auto made = now.place.behind(
                [&](const auto&... stream) { return now.source->try_fork(map_all, stream...); });
            if (made)
                now.other.emplace(*std::move(made));
            return made.status();
        },
        [](auto& now) {
            CHECK(now.other->rows() == all_rows);
            CHECK(wrong_bytes(*now.other) == 0);
        });
}

TEMPLATE_TEST_CASE("merging equal rows is all or nothing in both tensors whichever call fails", "", on_host,
                   on_stream) {
    const bool all = GENERATE(true, false); // or only the pages 4 … 9, the others being the same already
    every_loop<TestType>(
        all ? 20 : 9,
        [all](auto& now) {
            now.set(!all);
            if (all) {
                REQUIRE(append_filled(*now.other, all_rows));
            } else {
                REQUIRE(now.other->try_make_writable(20, 20));
                REQUIRE(now.source->try_make_writable(30, 5)); // may be written in both
            }
        },
        [](auto& now) {
            return now.place.behind([&](const auto&... stream) {
                return now.other->try_merge_prefix_of(*now.source, 71, stream...);
            });
        },
        [all](auto& now) {
            CHECK(now.other->rows() == all_rows);
            CHECK(wrong_bytes(*now.other) == 0);
            CHECK(now.other->shared_bytes() == (all ? 17 : 18) * 4_KiB);
            CHECK(now.pool.stats().in_use == (all ? 21 : 20) * 4_KiB);
        });
}

TEMPLATE_TEST_CASE("making rows writable is all or nothing whichever call fails", "", on_host, on_stream) {
    every_loop<TestType>(
        20,
        [](auto& now) { // pages 0 … 7 are shared, the others read-only and its own
            now.set(true);
            now.source->resize(35);
        },
        [](auto& now) {
            return now.place.behind(
                [&](const auto&... stream) { return now.other->try_make_writable(20, 40, stream...); });
        },
        [](auto& now) {
            now.write(*now.other, 20, 60);
            CHECK(now.wrong(*now.other, 0, 20, 0) == 0);
            CHECK(now.wrong(*now.other, 60, all_rows, 0) == 0);
            CHECK(wrong_bytes(*now.source) == 0);
            CHECK(now.other->shared_bytes() == 4 * 4_KiB);
            // again as before, for what comes next
            now.other->resize(20);
        });
}

TEMPLATE_TEST_CASE("growing over a shared page is all or nothing whichever call fails", "", on_host,
                   on_stream) {
    every_loop<TestType>(
        20,
        [](auto& now) {
            now.set(true);
            now.other->cut(30); // pages behind the rows stay mapped, shared as they are
        },
        [](auto& now) {
            return now.place.behind([&](const auto&... stream) {
                return now.other->try_append(now.other->rows() == 30 ? 60 : 0, stream...).status();
            });
        },
        [](auto& now) {
            REQUIRE(now.other->rows() == 90);
            now.write(*now.other, 30, 90);
            CHECK(now.wrong(*now.other, 0, 30, 0) == 0);
            CHECK(now.wrong(*now.other, 30, 90, written) == 0);
            CHECK(wrong_bytes(*now.source) == 0);
            CHECK(now.other->shared_bytes() == 7 * 4_KiB);
        });
}

TEMPLATE_TEST_CASE("a backend that never recovers costs no tensor the rows that it can still read", "",
                   on_host, on_stream) {
    enum class operation { share, merge, write, grow };
    for (const operation tried : {operation::share, operation::merge, operation::write, operation::grow}) {
        bool failed = true;
        for (std::size_t k = 1; failed; ++k) {
            INFO("operation " << static_cast<int>(tried) << ", from backend call " << k << " on");
            REQUIRE(k < 1000);
            // Declared first, so that the memory outlives what the tensors could not unmap.
            scene<TestType> faulty;
            faulty.set(tried > operation::merge);
            if (tried == operation::merge)
                REQUIRE(append_filled(*faulty.other, all_rows));
            if (tried == operation::grow)
                faulty.other->truncate(30);
            faulty.place.backend.fail_from(k, errc::native_failure);
            const status outcome = faulty.place.behind([&](const auto&... stream) {
                if (tried == operation::share)
                    return faulty.other->try_share_prefix_of(*faulty.source, 71, map_all, stream...);
                if (tried == operation::merge)
                    return faulty.other->try_merge_prefix_of(*faulty.source, 71, stream...);
                if (tried == operation::write)
                    return faulty.other->try_make_writable(20, 40, stream...);
                return faulty.other->try_append(60, stream...).status();
            });
            failed = faulty.place.backend.failures() != 0;
            CHECK(outcome.ok() == !failed);
            faulty.place.backend.disarm();
            faulty.place.finish();
            faulty.place.check_sound();
            CHECK(faulty.pool.verify());
            CHECK((faulty.source->verify() && faulty.other->verify()));
            CHECK(wrong_bytes(*faulty.source) == 0);
            CHECK(faulty.source->rows() == all_rows);
            const std::size_t readable = std::min<std::size_t>(faulty.other->rows(), 20);
            CHECK(faulty.wrong(*faulty.other, 0, readable, 0) == 0);
            CHECK((tried <= operation::merge || faulty.other->rows() >= 16));
            if (tried == operation::share &&
                !outcome) { // shared pages that stayed mapped are no room to grow
                REQUIRE(faulty.other->try_append(50));
                faulty.write(*faulty.other, 0, 50);
                CHECK(faulty.wrong(*faulty.other, 0, 50, written) == 0);
                CHECK(wrong_bytes(*faulty.source) == 0);
                CHECK((faulty.source->verify() && faulty.other->verify()));
            }
        }
    }
}

TEMPLATE_TEST_CASE("defragmenting a tensor with shared pages is all or nothing whichever call fails", "",
                   on_host, on_stream) {
    const auto row = GENERATE(std::size_t{1000}, std::size_t{1024}); // with the latter pages can be moved
    for (std::size_t number = 1; number < policies; ++number) {
        INFO(policy_names[number] << ", rows of " << row);
        every_loop<TestType>(
            row == 1024 && number == 3 ? 10 : 1,
            [row](auto& now) {
                now.row = row;
                now.set(true);
                std::vector<slot_type> kept{1, 17, 18};
                for (slot_type slot = 40; slot < 64; ++slot)
                    kept.push_back(slot);
                kept.insert(kept.end(), {66, 70});
                REQUIRE(now.other->try_evict(kept));
            },
            [number](auto& now) {
                return now.place.behind([&](const auto&... stream) {
                    return now.other->try_defragment(numbered_policy{number}, stream...);
                });
            },
            [row, number](auto& now) {
                CHECK(now.other->live_rows() == 29);
                CHECK(wrong_bytes(*now.other) == 0);
                CHECK(wrong_bytes(*now.source) == 0);
                CHECK(live_positions(*now.other).front() == 1);
                if (row == 1024 && number == 3) // pages moved, shared as they are: nothing was copied
                    CHECK(now.pool.stats().in_use == 19 * 4_KiB);
            });
    }
}
