// SPDX-License-Identifier: Apache-2.0
//
// Contexts of the simulation, and what is current in which thread. For HIP, which hides contexts, the current
// device of a thread stands for its primary context. Nothing here is synchronised: the machine's lock is
// held.
#pragma once

#include <support/simulated_driver/physical_memory.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <thread>
#include <vector>

namespace vtensor::testing::simulated {

struct context_state {
    std::uint64_t number = 0;
    int device = 0;
    bool primary = false;
    std::size_t references = 0; ///< of a primary context; an engine's own has one while it lives
};

class context_set {
  public:
    /// A primary context for each device, retained by nobody.
    explicit context_set(int devices) {
        for (int device = 0; device < devices; ++device)
            contexts_.push_back({next_object_number(), device, true, 0});
    }

    std::uint64_t retain_primary(int device) noexcept {
        context_state& primary = contexts_[static_cast<std::size_t>(device)];
        ++primary.references;
        return primary.number;
    }
    /// False where it was not retained.
    bool release_primary(int device) noexcept {
        context_state& primary = contexts_[static_cast<std::size_t>(device)];
        if (primary.references == 0)
            return false;
        --primary.references;
        return true;
    }
    [[nodiscard]] std::uint64_t primary(int device) const noexcept {
        return contexts_[static_cast<std::size_t>(device)].number;
    }
    /// A context as an engine makes its own.
    std::uint64_t create(int device) {
        contexts_.push_back({next_object_number(), device, false, 1});
        return contexts_.back().number;
    }
    void destroy(std::uint64_t number) noexcept {
        for (context_state& one : contexts_) {
            if (one.number == number && !one.primary)
                one.references = 0;
        }
    }

    /// Null where there is no such context, or it is not alive.
    [[nodiscard]] const context_state* find(std::uint64_t number) const noexcept {
        for (const context_state& one : contexts_) {
            if (one.number == number && one.references != 0)
                return &one;
        }
        return nullptr;
    }

    /// What is current in this thread: 0 where nothing is.
    [[nodiscard]] std::uint64_t current() const noexcept {
        const auto found = stacks_.find(std::this_thread::get_id());
        return found == stacks_.end() || found->second.empty() ? 0 : found->second.back();
    }
    void push(std::uint64_t number) { stacks_[std::this_thread::get_id()].push_back(number); }
    /// What was current; 0 where nothing was.
    std::uint64_t pop() noexcept {
        const auto found = stacks_.find(std::this_thread::get_id());
        if (found == stacks_.end())
            return 0;
        const std::uint64_t popped = found->second.back();
        found->second.pop_back();
        if (found->second.empty())
            stacks_.erase(found);
        return popped;
    }

    void set_device(int device) { devices_[std::this_thread::get_id()] = device; }
    [[nodiscard]] int device() const noexcept {
        const auto found = devices_.find(std::this_thread::get_id());
        return found == devices_.end() ? 0 : found->second;
    }

    [[nodiscard]] std::size_t retained() const noexcept {
        std::size_t sum = 0;
        for (const context_state& one : contexts_)
            sum += one.primary ? one.references : 0;
        return sum;
    }
    [[nodiscard]] std::size_t pushed() const noexcept {
        std::size_t sum = 0;
        for (const auto& [thread, stack] : stacks_)
            sum += stack.size();
        return sum;
    }

  private:
    std::vector<context_state> contexts_; ///< the primary ones first
    std::map<std::thread::id, std::vector<std::uint64_t>> stacks_;
    std::map<std::thread::id, int> devices_;
};

} // namespace vtensor::testing::simulated
