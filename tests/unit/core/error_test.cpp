// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"

#include <vtensor/core/error.hpp>

#include <memory>
#include <set>

using namespace vtensor;

namespace {

constexpr int last_errc = static_cast<int>(errc::native_failure);
constexpr int last_verb = static_cast<int>(verb::measure);

} // namespace

TEST_CASE("every code and every verb has a name and a sentence of its own") {
    std::set<std::string_view> names;
    std::set<std::string_view> sentences;
    for (int code = 0; code <= last_errc; ++code) {
        names.insert(name(static_cast<errc>(code)));
        sentences.insert(explain(static_cast<errc>(code)));
    }
    CHECK(names.size() == last_errc + 1);
    CHECK(sentences.size() == last_errc + 1);
    CHECK(names.count("unnamed") == 0);

    std::set<std::string_view> verbs;
    for (int where = 0; where <= last_verb; ++where)
        verbs.insert(name(static_cast<verb>(where)));
    CHECK(verbs.size() == last_verb + 1);
    CHECK(verbs.count("unnamed") == 0);
}

TEST_CASE("a failure reads as one line with verb, reason, code, size and native number") {
    CHECK(to_string(error{errc::out_of_memory, verb::create, 12, 2_MiB}) ==
          "create: no physical memory is left; free some, or lower what is asked for (out_of_memory, 2 MiB, "
          "native code 12)");
    CHECK(to_string(error{errc::still_mapped, verb::release, 0, bytes{}}) ==
          "release: the reservation still has mappings; unmap them first (still_mapped)");
}

TEST_CASE("a result holds a value or a failure, and moves what can only be moved") {
    result<std::unique_ptr<int>> good{std::make_unique<int>(7)};
    REQUIRE(good);
    CHECK(good.code() == errc::ok);
    CHECK(*std::move(good).value() == 7);

    const result<int> bad{error{errc::no_device, verb::construct, 100, bytes{}}};
    REQUIRE_FALSE(bad);
    CHECK(bad.code() == errc::no_device);
    CHECK(bad.status().error().native == 100);
    CHECK_THROWS_AS(bad.value(), backend_failure);
}

TEST_CASE("each code throws the type a caller would catch, and the failure travels in it") {
    const auto thrown_for = [](errc code) -> std::string {
        try {
            throw_error(error{code, verb::map, 3, 4_KiB});
        } catch (const std::bad_alloc&) {
            return "bad_alloc";
        } catch (const std::invalid_argument&) {
            return "invalid_argument";
        } catch (const std::runtime_error&) {
            return "runtime_error";
        }
    };
    CHECK(thrown_for(errc::out_of_memory) == "bad_alloc");
    CHECK(thrown_for(errc::out_of_addresses) == "bad_alloc");
    CHECK(thrown_for(errc::limit_exceeded) == "bad_alloc");
    CHECK(thrown_for(errc::too_many_mappings) == "bad_alloc");
    CHECK(thrown_for(errc::invalid_argument) == "invalid_argument");
    CHECK(thrown_for(errc::misaligned) == "invalid_argument");
    CHECK(thrown_for(errc::no_device) == "runtime_error");
    CHECK(thrown_for(errc::native_failure) == "runtime_error");

    for (int code = 1; code <= last_errc; ++code) {
        try {
            throw_error(error{static_cast<errc>(code), verb::map, 3, 4_KiB});
        } catch (const failure& caught) {
            CHECK(caught.error() == error{static_cast<errc>(code), verb::map, 3, 4_KiB});
        }
    }
    CHECK_NOTHROW(throw_if_failed(status{}));
    CHECK_THROWS_AS(throw_if_failed(error{errc::misaligned, verb::map, 0, bytes{}}), bad_argument);
}
