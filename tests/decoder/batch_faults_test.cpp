// SPDX-License-Identifier: Apache-2.0
//
// A batch whose memory fails: call 1, 2, 3, … of the backend fails in turn. Either every text is the one that
// its prompt gets by itself, or one line says what failed; whichever it is, no sequence is left with the
// manager, its books are the backend's, the same batch runs in the same manager afterwards, and at the end
// nothing is leaked.
#include <support/catch.hpp>
#include <support/fault_loop.hpp>
#include <support/sanitizers.hpp>

#include "app/generate.hpp"
#include "app/generate_batch.hpp"
#include "model/managed_sequences_on.hpp"
#include "support/refusal.hpp"
#include "support/run.hpp"
#include "support/vectors.hpp"

#include <vtensor/adaptors/failing.hpp>
#include <vtensor/backends/host.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

using namespace decoder;
using Catch::Matchers::ContainsSubstring;
using decoder_test::is_one_line;
using decoder_test::loaded;
using decoder_test::refusal_of;
using decoder_test::vectors;
using vtensor::errc;
using vtensor::host_backend;
using vtensor::verb;
using vtensor::testing::any_sanitizer;
using vtensor::testing::for_each_failing_call;
using failing_backend = vtensor::adaptors::failing<host_backend>;

namespace {

constexpr vtensor::bytes page{4096}; // 21 rows of 2 heads × 24 floats
constexpr std::size_t most_tokens = 12;

using texts = std::vector<std::vector<int>>;

struct batch_kind {
    std::string name;
    batch_request request;
    bool is_scarce; ///< memory for the longest sequence, and none more
};

/// Prompts whose first `shared` tokens are the same, and that differ from there on.
batch_request make_request(std::size_t shared, const std::vector<std::size_t>& own, std::size_t samples) {
    batch_request request{.prompts = {}, .samples = samples, .prefill_chunk = 16, .how = {.temperature = 1}};
    for (const std::size_t length : own) {
        batch_prompt prompt{.tokens = {}, .max_tokens = most_tokens};
        for (std::size_t at = 0; at < shared; ++at)
            prompt.tokens.push_back(static_cast<int>('a' + at * at % 23));
        for (std::size_t at = 0; at < length; ++at)
            prompt.tokens.push_back(static_cast<int>('A' + (at + length) * (length + 2) % 26));
        request.prompts.push_back(prompt);
    }
    return request;
}

/// A plain batch, one behind a system prompt, parallel samples, and all of it where memory is short.
std::array<batch_kind, 4> kinds() {
    return {{{"plain", make_request(0, {15, 35}, 1), false},
             {"system prompt", make_request(30, {5, 20}, 1), false},
             {"parallel samples", make_request(0, {16, 24}, 2), false},
             {"scarce memory", make_request(22, {5, 16}, 2), true}}};
}

/// A model, memory that can be told to fail, and one batch with the texts that it is to give.
struct scene {
    explicit scene(batch_kind of) : kind{std::move(of)} {
        const auto& prompts = kind.request.prompts;
        std::size_t rows = 0;
        for (const batch_prompt& prompt : prompts)
            rows = std::max(rows, prompt.tokens.size() + prompt.max_tokens - 1);
        if (kind.is_scarce)
            limit = memory_for(shape, kv_type::f32, page, rows);
        for (const batch_prompt& prompt : prompts) {
            for (std::size_t sample = 0; sample < kind.request.samples; ++sample) {
                host_backend quiet;
                const auto cache =
                    make_kv_cache(quiet, shape, {kv_type::f32, kv_growth::exact, page, vtensor::bytes{0}});
                generation_request alone{prompt.tokens, prompt.max_tokens, kind.request.prefill_chunk,
                                         kind.request.how};
                alone.how.seed += sample;
                expected.push_back(generate(with.model, *cache, alone, threads, [](int) {}).tokens);
            }
        }
    }

    void make_sequences(kv_growth growth) {
        sequences = std::make_unique<managed_sequences_on<float, failing_backend>>(
            backend, shape, kv_options{kv_type::f32, growth, page, limit});
    }
    /// What the batch refuses with; "" where every text is as expected.
    std::string run() {
        return refusal_of([&] {
            texts made;
            outcome = generate_batch(with.model, *sequences, kind.request, threads);
            for (const completion& one : outcome.completions)
                made.push_back(one.tokens);
            CHECK(made == expected);
        });
    }
    /// No sequence is left, and the manager has what the backend has.
    void check_books() {
        REQUIRE(sequences->verify());
        const auto now = sequences->stats();
        CHECK(now.running == 0);
        CHECK(now.preempted == 0);
        CHECK(now.tokens == 0);
        CHECK(now.mapped == now.lazily_held);
        CHECK(memory.mapped_bytes() == now.mapped);
        CHECK(memory.reserved_bytes() == now.reserved);
        CHECK(memory.kernel_physical_bytes() >= now.physical);
        CHECK((limit == vtensor::bytes{0} || memory.kernel_physical_bytes() <= limit));
    }
    /// Once more in the same manager, undisturbed; then it goes, and all it had with it.
    void check_goes_on_and_leaves_nothing() {
        check_books();
        CHECK(run().empty());
        check_books();
        sequences.reset();
        CHECK(memory.mapped_bytes() == vtensor::bytes{});
        CHECK(memory.reserved_bytes() == vtensor::bytes{});
        CHECK(memory.kernel_physical_bytes() == vtensor::bytes{});
    }

    batch_kind kind;
    loaded with{vectors() / "untied_llama3"};
    kv_shape shape = with.model.cache_shape();
    thread_pool threads{1};
    vtensor::bytes limit{};
    texts expected;
    host_backend memory;
    failing_backend backend{memory};
    std::unique_ptr<managed_sequences> sequences;
    batch_outcome outcome;
};

/// One line that names the failure; where memory is short, perhaps the limit, which a page that could not be
/// given back stands in the way of.
void check_said(const std::string& said, errc code, bool is_scarce) {
    CAPTURE(said);
    CHECK(is_one_line(said));
    const bool names_it = said.find(name(code)) != std::string::npos;
    CHECK((names_it || (is_scarce && said.find(name(errc::limit_exceeded)) != std::string::npos)));
}

} // namespace

TEST_CASE("Whatever call of the backend fails, a batch says so or does without, and runs again") {
    for (batch_kind& kind : kinds()) {
        scene now{std::move(kind)};
        CAPTURE(now.kind.name);
        now.make_sequences(kv_growth::exact);
        REQUIRE(now.run().empty());
        CHECK((now.outcome.figures.end.manager.preemptions > 0) == now.kind.is_scarce);
        now.check_goes_on_and_leaves_nothing();
        for (const errc code : {errc::native_failure, errc::out_of_memory}) {
            const bool is_shortage = vtensor::is_shortage(code);
            if (is_shortage && any_sanitizer)
                continue; // the longer half
            std::string said;
            std::size_t refusals = 0;
            const std::size_t met = for_each_failing_call(
                now.backend,
                [&] {
                    now.make_sequences(kv_growth::exact);
                    said = now.run();
                    return said.empty();
                },
                [&](std::size_t) {
                    ++refusals;
                    check_said(said, code, now.kind.is_scarce);
                    now.check_goes_on_and_leaves_nothing();
                },
                [&] { now.check_goes_on_and_leaves_nothing(); }, code);
            now.check_goes_on_and_leaves_nothing();
            CHECK(met > 6 * 3); // an address range and a page a tensor, at least
            // A shortage is mended by waiting, or by giving something back.
            CHECK((is_shortage ? refusals < met / 10 : refusals > met / 2));
        }
    }
}

TEST_CASE("A batch whose memory ends for good ends with one line, and not later than its texts") {
    for (batch_kind& kind : kinds()) {
        scene now{std::move(kind)};
        CAPTURE(now.kind.name);
        std::size_t refusals = 0;
        for (std::size_t k = 1;; ++k) {
            now.make_sequences(kv_growth::exact);
            now.backend.fail_from(k, errc::out_of_memory, {verb::create, verb::map});
            const std::string said = now.run();
            const bool was_short = now.backend.failures() != 0;
            now.backend.disarm();
            CAPTURE(k, said);
            if (!said.empty()) {
                ++refusals;
                CHECK(was_short);
                check_said(said, errc::out_of_memory, now.kind.is_scarce);
                CHECK_THAT(said, ContainsSubstring("tokens of prompt"));
            }
            now.check_goes_on_and_leaves_nothing();
            if (!was_short)
                break;
        }
        CHECK(refusals > 0);
    }
}

TEST_CASE("Failures while a mapper thread maps ahead lose no sequence, text or page") {
    for (batch_kind& kind : kinds()) {
        scene now{std::move(kind)};
        CAPTURE(now.kind.name);
        std::size_t refusals = 0;
        // Which call is the k-th depends on the threads: every run has its own.
        for (std::size_t k = 1; k < 1000; k += any_sanitizer ? 11 : 3) {
            now.make_sequences(kv_growth::look_ahead);
            now.backend.fail_call(k, k % 2 == 0 ? errc::out_of_memory : errc::native_failure);
            const std::string said = now.run();
            REQUIRE(now.sequences->verify()); // waits for the mapper
            const bool was_struck = now.backend.failures() != 0;
            now.backend.disarm();
            CAPTURE(k, said);
            if (!said.empty()) {
                ++refusals;
                CHECK(was_struck);
                CHECK(is_one_line(said));
            }
            now.check_goes_on_and_leaves_nothing();
            if (!was_struck)
                break;
        }
        CHECK(refusals > 0);
    }
}
