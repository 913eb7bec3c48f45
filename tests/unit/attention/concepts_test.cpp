// SPDX-License-Identifier: Apache-2.0
//
// Compile-time: what models attention_policy, and what fails it in one way each.
#include "support/catch.hpp"
#include <vtensor/attention/host.hpp>
#include <vtensor/attention/reference.hpp>

#include <cstddef>
#include <cstdint>

using namespace vtensor;

namespace {

using floats = attention::problem<float>;
using runner = attention::inline_executor;

struct not_an_executor {
    void operator()(std::size_t) const {}
};
struct returns_nothing {
    template <class Problem, class Executor>
    void operator()(const Problem&, Executor&) const {}
};
struct returns_bool {
    template <class Problem, class Executor>
    bool operator()(const Problem&, Executor&) const {
        return true;
    }
};
struct takes_no_executor {
    template <class Problem>
    status operator()(const Problem&) const {
        return {};
    }
};
struct only_mutable {
    template <class Problem, class Executor>
    status operator()(const Problem&, Executor&) {
        return {};
    }
};

static_assert(attention_policy<attention::reference, floats, runner>);
static_assert(attention_policy<attention::host, floats, runner>);
static_assert(attention_policy<attention::host, attention::problem<float16>, const runner>);
static_assert(attention_policy<attention::host, attention::problem<bfloat16, float16>, runner>);

static_assert(!attention_policy<attention::reference, floats, not_an_executor>);
static_assert(!attention_policy<attention::host, floats, not_an_executor>);
static_assert(!attention_policy<attention::host, int, runner>);
static_assert(!attention_policy<returns_nothing, floats, runner>);
static_assert(!attention_policy<returns_bool, floats, runner>);
static_assert(!attention_policy<takes_no_executor, floats, runner>);
static_assert(!attention_policy<only_mutable, floats, runner>);

static_assert(attention::attention_element<bfloat16>);
static_assert(!attention::attention_element<double>);
static_assert(!attention::attention_element<const float>);
static_assert(!attention::attention_element<std::uint16_t>);

} // namespace

TEST_CASE("the inline executor runs every task once and in order") {
    std::size_t next = 0;
    attention::inline_executor{}(5, [&](std::size_t task) { REQUIRE(task == next++); });
    CHECK(next == 5);
    attention::inline_executor{}(0, [](std::size_t) { FAIL("there is no task"); });
}
