// SPDX-License-Identifier: Apache-2.0
// The figures of a run, by hand; what the chart makes of it; and options.
#include <trace/memory_chart.hpp>
#include <trace/run_summary.hpp>
#include <trace/settings.hpp>

#include <support/catch.hpp>

#include <sstream>
#include <string>
#include <vector>

namespace vtensor::bench {

namespace {

const kv_shape shape{.layers = 1, .heads = 1, .width = 4, .element = 2}; // 16 bytes a token

step_record make_step(double start, double computing, double managing, bool steady, std::size_t sequences,
                      std::size_t distinct, std::size_t held) {
    return {.start = start,
            .computing = computing,
            .managing = managing,
            .steady = steady,
            .sequences = sequences,
            .tokens = distinct,
            .distinct = distinct,
            .memory = {bytes{4096}, bytes{held}, bytes{64}}};
}

} // namespace

TEST_CASE("Peaks, means, ratios and times of a run are those found by hand") {
    run_record record;
    record.steps = {make_step(0, 1, 0.5, false, 1, 10, 200),  // 160 bytes of tokens: 1.25
                    make_step(1, 3, 0.1, true, 3, 100, 1680), // 1600: 1.05, the peak
                    make_step(4, 1, 0.2, true, 2, 10, 320)};  // 160: 2, the worst
    record.seconds = 5;
    record.finished = 2;
    record.prompt_tokens = 40;
    record.matched_tokens = 10;
    const run_summary found = summarize(record, shape);
    CHECK(found.held.peak == 1680);
    CHECK(found.held.mean == Catch::Approx((200 + 3 * 1680 + 320) / 5.0));
    CHECK(found.held.ratio_at_peak == Catch::Approx(1.05));
    CHECK(found.held.worst_ratio == Catch::Approx(2));
    CHECK(found.physical.peak == 4096);
    CHECK(found.physical.worst_ratio == Catch::Approx(25.6));
    CHECK(found.physical.ratio_at_peak == Catch::Approx(2.56)); // of a peak that lasts, its best moment
    CHECK(found.kept_mean == Catch::Approx(64));
    CHECK(found.waste_mean == Catch::Approx((40 + 3 * 80 + 160) / 5.0));
    CHECK(found.sequences_peak == 3);
    CHECK(found.sequences_mean == Catch::Approx((1 + 9 + 2) / 5.0));
    CHECK(found.requests_per_second == Catch::Approx(0.4));
    CHECK(found.hit_rate == Catch::Approx(0.25));
    CHECK(found.managing.mean == Catch::Approx(0.8 / 3));
    CHECK(found.managing.most == 0.5);
    CHECK(found.steady.mean == Catch::Approx(0.15));
    CHECK(found.steady.most == 0.2);
    CHECK(found.share == Catch::Approx(0.8 / 5.8));
}

TEST_CASE("99 of 100 steps do not exceed the 99th percentile") {
    run_record record;
    for (int index = 200; index > 0; --index)
        record.steps.push_back(make_step(0, 1, index, true, 1, 1, 16));
    CHECK(summarize(record, shape).managing.p99 == 198);
    record.steps.resize(1);
    CHECK(summarize(record, shape).managing.p99 == 200);
}

TEST_CASE("A run without steps has no figures, and nothing is divided by zero") {
    const run_summary found = summarize({}, shape);
    CHECK(found.held.mean == 0);
    CHECK(found.requests_per_second == 0);
    CHECK(found.managing.p99 == 0);
    std::ostringstream out;
    memory_chart chart;
    chart.add({.title = "none", .limit = 1, .managers = {make_chart_manager("m", {}, shape)}});
    chart.write(out);
    CHECK(out.str().find("nan") == std::string::npos);
}

TEST_CASE("A line of the chart keeps the largest value of every span of time") {
    run_record record;
    for (std::size_t index = 0; index < 1000; ++index)
        record.steps.push_back(
            make_step(static_cast<double>(index), 1, 0, true, 1, 1, index == 500 ? 8 << 20 : 1 << 20));
    const chart_manager made = make_chart_manager("m", record, shape, 10);
    REQUIRE(made.held.points.size() == 10);
    CHECK(made.held.points[4].second == 1);
    CHECK(made.held.points[5].second == 8);
    CHECK(made.held.points[5].first == 500);
}

namespace {

trace_settings settings_of(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "bench_trace");
    return read_settings(static_cast<int>(arguments.size()), arguments.data());
}

} // namespace

TEST_CASE("Options choose pages, model and limit; what makes no sense is refused") {
    CHECK(settings_of({}).scenes.size() == 2);
    const trace_settings chosen =
        settings_of({"--page-kib", "2048", "--limit-mib", "64", "--layers", "3", "--check"});
    REQUIRE(chosen.scenes.size() == 1);
    CHECK(chosen.scenes[0].page == 2_MiB);
    CHECK(chosen.scenes[0].limit == 64_MiB);
    CHECK(chosen.scenes[0].shape.layers == 3);
    CHECK(chosen.scenes[0].shape.heads == large_pages.shape.heads);
    CHECK(chosen.check);
    CHECK_FALSE(chosen.thread_time);
    CHECK(settings_of({"--thread-time"}).thread_time);
    CHECK_FALSE(settings_of({"--thread-time"}).check);
    CHECK(settings_of({"--limit-mib", "64"}).scenes[1].limit == 64_MiB);
    CHECK(settings_of({"--trace", "a", "--trace", "b"}).traces == std::vector<std::string>{"a", "b"});
    CHECK(settings_of({"--quick"}).requests < 1000);
    CHECK(settings_of({"--requests", "7", "--quick"}).requests == 7);
    using arguments = std::vector<const char*>;
    for (const arguments& bad :
         {arguments{"--requests"}, arguments{"--requests", "0"}, arguments{"--requests", "x"},
          arguments{"--requests", "1.5"}, arguments{"--rate", "-1"}, arguments{"--rate", "nan"},
          arguments{"--no-such", "1"}, arguments{"--width", "1", "--kv-heads", "1"},
          arguments{"trace.csv"}}) {
        INFO(bad[0]);
        CHECK_THROWS_AS(settings_of(bad), std::runtime_error);
    }
}

} // namespace vtensor::bench
