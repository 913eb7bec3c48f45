// SPDX-License-Identifier: Apache-2.0
//
// The options of bench_trace.
#pragma once

#include "cost_model.hpp"
#include "kv_shape.hpp"

#include <vtensor/core/units.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace vtensor::bench {

/// A model's shape, the pages its KV is mapped by, and the memory it may take.
struct scene {
    kv_shape shape{};
    bytes page{};
    bytes limit{};
};

/// Both hold the same number of tokens. The kernel allows a process some 65,000 mappings, so pages of 4 KiB
/// take a smaller model.
inline const scene small_pages{{.layers = 2, .heads = 2, .width = 64, .element = 2}, 4_KiB, 192_MiB};
inline const scene large_pages{{.layers = 2, .heads = 8, .width = 128, .element = 2}, 2_MiB, 1536_MiB};

struct trace_settings {
    std::vector<scene> scenes{small_pages, large_pages};
    std::vector<std::string> traces; ///< files; empty: those that come with the bench, and the generated ones
    std::vector<std::string> managers; ///< by name; empty: all
    std::size_t requests = 4000;       ///< of a workload at most
    double per_second = 0;             ///< of traces; 0: as the bench sets it for each
    double headroom = 0.01;
    std::size_t max_sequences = 512;
    std::uint64_t seed = 1;
    bool check = false;
    bool thread_time = false;
    cost_model cost{};
    std::string json;
    std::string svg;
};

namespace detail {

[[nodiscard]] inline double positive(std::string_view option, const char* text) {
    char* end = nullptr;
    const double value = std::strtod(text, &end);
    if (end == text || *end != '\0' || !(value > 0) || value > 1e9)
        throw std::runtime_error{std::string{option} + ": '" + text + "' is no positive number"};
    return value;
}
[[nodiscard]] inline std::size_t counting(std::string_view option, const char* text) {
    const double value = positive(option, text);
    if (value != static_cast<double>(static_cast<std::size_t>(value)))
        throw std::runtime_error{std::string{option} + ": '" + text + "' is no whole number"};
    return static_cast<std::size_t>(value);
}

/// `scene` stays one where an option of the model was given: that of the pages that were chosen.
struct scene_options {
    std::size_t page_kib = 0;
    std::size_t limit_mib = 0;
    kv_shape shape{.layers = 0, .heads = 0, .width = 0, .element = 0};

    void apply(std::vector<scene>& scenes) const {
        if (page_kib != 0) {
            scenes = {page_kib < 2048 ? small_pages : large_pages};
            scenes[0].page = bytes{page_kib << 10};
        }
        for (scene& one : scenes) {
            if (limit_mib != 0)
                one.limit = bytes{limit_mib << 20};
            for (const auto part :
                 {&kv_shape::layers, &kv_shape::heads, &kv_shape::width, &kv_shape::element})
                if (shape.*part != 0)
                    one.shape.*part = shape.*part;
            if (one.shape.row() < 8_B)
                throw std::runtime_error{"a key of a layer must have 8 bytes at least"};
        }
    }
};

} // namespace detail

/// Throws std::runtime_error for what is no option and for values that make no sense.
[[nodiscard]] inline trace_settings read_settings(int count, const char* const* arguments) {
    trace_settings chosen;
    detail::scene_options model;
    bool quick = false;
    bool told_requests = false;
    for (int index = 1; index < count; ++index) {
        const std::string_view name = arguments[index];
        if (name == "--quick" || name == "--check" || name == "--thread-time") {
            quick = quick || name == "--quick";
            chosen.check = chosen.check || name != "--thread-time";
            chosen.thread_time = chosen.thread_time || name == "--thread-time";
            continue;
        }
        if (++index == count)
            throw std::runtime_error{std::string{name} + " lacks its value"};
        const char* const text = arguments[index];
        const auto amount = [&] { return detail::positive(name, text); };
        const auto number = [&] { return detail::counting(name, text); };
        if (name == "--trace")
            chosen.traces.emplace_back(text);
        else if (name == "--manager")
            chosen.managers.emplace_back(text);
        else if (name == "--requests") {
            chosen.requests = number();
            told_requests = true;
        } else if (name == "--rate")
            chosen.per_second = amount();
        else if (name == "--seed")
            chosen.seed = number();
        else if (name == "--max-sequences")
            chosen.max_sequences = number();
        else if (name == "--headroom")
            chosen.headroom = amount();
        else if (name == "--page-kib")
            model.page_kib = number();
        else if (name == "--limit-mib")
            model.limit_mib = number();
        else if (name == "--layers")
            model.shape.layers = number();
        else if (name == "--kv-heads")
            model.shape.heads = number();
        else if (name == "--width")
            model.shape.width = number();
        else if (name == "--element-bytes")
            model.shape.element = number();
        else if (name == "--step-seconds")
            chosen.cost.step = amount();
        else if (name == "--sequence-seconds")
            chosen.cost.sequence = amount();
        else if (name == "--context-token-seconds")
            chosen.cost.context_token = amount();
        else if (name == "--prefill-rate")
            chosen.cost.prefill_tokens_per_second = amount();
        else if (name == "--json")
            chosen.json = text;
        else if (name == "--svg")
            chosen.svg = text;
        else
            throw std::runtime_error{"there is no option " + std::string{name}};
    }
    if (quick && model.page_kib == 0)
        chosen.scenes = {small_pages};
    if (quick && !told_requests)
        chosen.requests = 60;
    model.apply(chosen.scenes);
    return chosen;
}

} // namespace vtensor::bench
