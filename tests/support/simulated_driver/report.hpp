// SPDX-License-Identifier: Apache-2.0
//
// What a simulated machine has to say at the end of a test: rules broken that no return code can tell, and
// what was not given back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace vtensor::testing::simulated {

/// What went wrong that the caller did not learn at once.
enum class violation_kind : std::uint8_t {
    unmapped_in_use,  ///< memory was unmapped, freed or made inaccessible that queued work still touches
    illegal_access,   ///< work touched memory that its device may not touch
    corrupted,        ///< a quirk damaged a mapping
    endless_wait,     ///< a wait for work that nobody lets run
    simulation_limit, ///< Linux refused what a device would have done: not the tested code's fault
};

[[nodiscard]] constexpr std::string_view name(violation_kind kind) noexcept {
    switch (kind) {
    case violation_kind::unmapped_in_use:
        return "unmapped_in_use";
    case violation_kind::illegal_access:
        return "illegal_access";
    case violation_kind::corrupted:
        return "corrupted";
    case violation_kind::endless_wait:
        return "endless_wait";
    case violation_kind::simulation_limit:
        return "simulation_limit";
    }
    return "unnamed";
}

struct violation {
    violation_kind kind{};
    std::string text;
};

/// What is alive. All zero where everything was given back.
struct leak_report {
    std::size_t reservations = 0;
    std::size_t reserved_bytes = 0;
    std::size_t mappings = 0;
    std::size_t handles = 0; ///< memory handles with at least one reference
    std::size_t handle_references = 0;
    std::size_t plain_allocations = 0; ///< of mem_alloc
    std::size_t physical_bytes = 0;    ///< of all devices; also what only exported descriptors keep
    std::size_t exported_memories = 0; ///< memory that only descriptors of this process keep alive
    std::size_t contexts = 0;          ///< primary contexts retained, counted by reference
    std::size_t pushed_contexts = 0;   ///< pushed and not popped, over all threads
    std::size_t streams = 0;
    std::size_t events = 0;
    std::size_t queued_operations = 0;

    friend bool operator==(const leak_report&, const leak_report&) = default;
    [[nodiscard]] bool none() const { return *this == leak_report{}; }
};

/// "2 mappings, 1 handles", or "nothing".
[[nodiscard]] inline std::string to_string(const leak_report& leaks) {
    std::string text;
    const std::pair<std::size_t, std::string_view> counts[] = {
        {leaks.reservations, "reservations"},
        {leaks.reserved_bytes, "reserved bytes"},
        {leaks.mappings, "mappings"},
        {leaks.handles, "handles"},
        {leaks.handle_references, "handle references"},
        {leaks.plain_allocations, "plain allocations"},
        {leaks.physical_bytes, "physical bytes"},
        {leaks.exported_memories, "memories kept by exported descriptors"},
        {leaks.contexts, "retained contexts"},
        {leaks.pushed_contexts, "pushed contexts"},
        {leaks.streams, "streams"},
        {leaks.events, "events"},
        {leaks.queued_operations, "queued operations"}};
    for (const auto& [count, what] : counts) {
        if (count != 0)
            text.append(text.empty() ? "" : ", ").append(std::to_string(count)).append(" ").append(what);
    }
    return text.empty() ? "nothing" : text;
}

} // namespace vtensor::testing::simulated
