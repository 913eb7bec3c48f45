// SPDX-License-Identifier: Apache-2.0
//
// Work on numbered items, cut into as many parts as there are threads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <exception>
#include <thread>
#include <vector>

namespace vtensor::bench {

/// The results of work(first, count) of every part, in order; each part on a thread of its own. At least one
/// part. Throws what the first part that threw has thrown.
template <class Result, class Work>
std::vector<Result> in_parts(std::size_t items, std::size_t threads, Work work) {
    const std::size_t parts = std::clamp<std::size_t>(threads, 1, std::max<std::size_t>(1, items));
    std::vector<Result> results(parts);
    std::vector<std::exception_ptr> failures(parts);
    const auto run = [&](std::size_t part) {
        try {
            const std::size_t first = items * part / parts;
            results[part] = work(first, items * (part + 1) / parts - first);
        } catch (...) {
            failures[part] = std::current_exception();
        }
    };
    {
        std::vector<std::jthread> others;
        for (std::size_t part = 1; part < parts; ++part)
            others.emplace_back(run, part);
        run(0);
    }
    for (const std::exception_ptr& failure : failures)
        if (failure)
            std::rethrow_exception(failure);
    return results;
}

} // namespace vtensor::bench
