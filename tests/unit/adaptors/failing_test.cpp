// SPDX-License-Identifier: Apache-2.0
#include "fake_device.hpp"

#include <support/catch.hpp>
#include <support/fault_loop.hpp>

#include <vtensor/adaptors/failing.hpp>

#include <string>
#include <vector>

namespace vtensor::testing {
namespace {

const address somewhere{std::uintptr_t{4096}};

/// How ten reservations of different sizes ended: "ok" or the code, a letter each: '.' or 'X'.
template <class Backend>
std::string ten_calls(Backend& backend, errc expected = errc::out_of_memory) {
    std::string outcome;
    for (std::size_t k = 1; k <= 10; ++k) {
        const auto each = backend.reserve(64_KiB * k, 0_B);
        if (!each)
            CHECK(each.error() == error{expected, verb::reserve, 0, 64_KiB * k});
        outcome += each ? '.' : 'X';
    }
    return outcome;
}

TEST_CASE("failing lets everything through until it is armed, and again when it is disarmed") {
    fake_device device;
    adaptors::failing broken{device};
    CHECK(ten_calls(broken) == "..........");
    CHECK(broken.calls() == 10);
    broken.fail_from(1);
    CHECK(broken.calls() == 0);
    CHECK(ten_calls(broken) == "XXXXXXXXXX");
    CHECK(broken.failures() == 10);
    broken.disarm();
    CHECK(ten_calls(broken) == "..........");
    CHECK(broken.failures() == 0);
}

TEST_CASE("failing fails the k-th call alone, several from the k-th, or all from the k-th") {
    fake_device device;
    adaptors::failing broken{device};
    broken.fail_call(3);
    CHECK(ten_calls(broken) == "..X.......");
    broken.fail_calls(4, 2, errc::native_failure);
    CHECK(ten_calls(broken, errc::native_failure) == "...XX.....");
    broken.fail_from(8, errc::too_many_mappings);
    CHECK(ten_calls(broken, errc::too_many_mappings) == ".......XXX");
    CHECK(broken.calls() == 10);
    CHECK(broken.failures() == 3);
}

TEST_CASE("a call that failing fails never reaches the backend") {
    fake_device device;
    adaptors::failing broken{device};
    broken.fail_call(2);
    CHECK(broken.reserve(64_KiB, 0_B).ok());
    CHECK_FALSE(broken.create(64_KiB).ok());
    CHECK(device.asked() == std::vector<std::string>{"reserve 65536 0"});
}

TEST_CASE("failing counts and fails only the verbs it was told") {
    fake_device device;
    adaptors::failing broken{device};
    broken.fail_call(2, errc::out_of_memory, {verb::map, verb::unmap});
    const auto chunk = *broken.create(64_KiB);
    CHECK(broken.reserve(64_KiB, 0_B).ok());
    CHECK(broken.map(somewhere, chunk).ok());
    CHECK(broken.set_access(somewhere, 64_KiB, access_mode::read).ok());
    CHECK(broken.unmap(somewhere, 64_KiB).error() == error{errc::out_of_memory, verb::unmap, 0, 64_KiB});
    CHECK(broken.map(somewhere, chunk).ok());
    CHECK(broken.calls() == 3);
    CHECK(broken.failures() == 1);
}

TEST_CASE("failing fails the calls that a predicate chooses") {
    fake_device device;
    adaptors::failing broken{device};
    broken.fail_if([](const adaptors::call& seen) { return seen.size >= 512_KiB; }, errc::out_of_addresses);
    CHECK(ten_calls(broken, errc::out_of_addresses) == ".......XXX");
    broken.fail_if([](const adaptors::call& seen) {
        return seen.what == verb::map && seen.where == somewhere && seen.size == 64_KiB;
    });
    const auto chunk = *broken.create(64_KiB);
    CHECK_FALSE(broken.map(somewhere, chunk).ok());
    CHECK(broken.map(somewhere + 64_KiB, chunk).ok());
    CHECK(broken.failures() == 1);
}

TEST_CASE("queries do not count as calls") {
    fake_device device;
    adaptors::failing broken{device};
    broken.fail_call(1);
    CHECK(broken.granularity() == 64_KiB);
    CHECK(broken.can_export());
    CHECK_FALSE(broken.host_visible());
    CHECK(broken.calls() == 0);
}

/// An operation of three calls that gives back what it took: the smallest thing to run the loop over.
template <class Backend>
bool create_two(Backend& backend, int& undone) {
    const auto first = backend.create(64_KiB);
    if (!first)
        return false;
    if (backend.create(64_KiB))
        return true;
    undone += backend.destroy(*first).ok() ? 1 : 0;
    return false;
}

TEST_CASE("the fault loop fails each call once and stops when none is left to fail") {
    fake_device device;
    adaptors::failing broken{device};
    std::vector<std::size_t> failed;
    int undone = 0;
    const std::size_t runs = for_each_failing_call(
        broken, [&] { return create_two(broken, undone); }, [&](std::size_t k) { failed.push_back(k); });
    CHECK(runs == 2);
    CHECK(failed == std::vector<std::size_t>{1, 2});
    CHECK(undone == 1);
}

TEST_CASE("the fault loop can fail the undo as well") {
    fake_device device;
    adaptors::failing broken{device};
    int undone = 0;
    const std::size_t runs = for_each_failing_call(
        broken, [&] { return create_two(broken, undone); }, [](std::size_t) {}, errc::native_failure,
        fault_length::with_undo);
    CHECK(runs == 2);
    CHECK(undone == 0);
}

TEST_CASE("the fault loop goes on after an operation that can do without the failed call") {
    fake_device device;
    adaptors::failing broken{device};
    int undos = 0;
    int checks = 0;
    const auto operation = [&] {
        static_cast<void>(broken.reserve(64_KiB, 0_B)); // a wish
        return broken.create(64_KiB).ok();
    };
    const std::size_t runs = for_each_failing_call(
        broken, operation, [&](std::size_t k) { checks += static_cast<int>(k); }, [&] { ++undos; });
    CHECK(runs == 2);
    CHECK(undos == 1);
    CHECK(checks == 2);
}

} // namespace
} // namespace vtensor::testing
