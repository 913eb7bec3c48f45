// SPDX-License-Identifier: Apache-2.0
//
// Where the functions of a driver table, which have no state, find their machine: one slot for each table.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <stdexcept>
#include <utility>

namespace vtensor::testing::simulated {

template <class Machine>
class machine_slots {
  public:
    static constexpr std::size_t count = 8; ///< machines of one kind at the same time

    /// The slot's number. Throws std::runtime_error where all are taken.
    static std::size_t take(Machine& by) {
        for (std::size_t number = 0; number < count; ++number) {
            Machine* nobody = nullptr;
            if (slots_[number].compare_exchange_strong(nobody, &by))
                return number;
        }
        throw std::runtime_error{"too many simulated machines at once"};
    }
    static void give_back(std::size_t number) noexcept { slots_[number] = nullptr; }
    [[nodiscard]] static Machine* at(std::size_t number) noexcept { return slots_[number]; }

  private:
    static inline std::array<std::atomic<Machine*>, count> slots_{};
};

/// `Entries<slot>::table(arguments...)` for a slot that is known only at run time.
template <template <std::size_t> class Entries, class Table, std::size_t Count, class... Arguments>
[[nodiscard]] Table table_of_slot(std::size_t slot, const Arguments&... arguments) noexcept {
    Table made{};
    [&]<std::size_t... Slots>(std::index_sequence<Slots...>) {
        ((slot == Slots ? void(made = Entries<Slots>::table(arguments...)) : void()), ...);
    }
    (std::make_index_sequence<Count>{});
    return made;
}

} // namespace vtensor::testing::simulated
