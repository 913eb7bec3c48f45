// SPDX-License-Identifier: Apache-2.0
//
// Random calls, sensible and not, on a backend and on the model of the contract: the same codes, the same
// figures, the same bytes, and the access that somebody else than the backend reports.
#pragma once

#include <support/catch.hpp>
#include <support/reference_backend.hpp>

#include <vtensor/core/concepts.hpp>

#include <array>
#include <cstdlib>
#include <iostream>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace vtensor::conformance {

using testing::reference_backend;
using testing::reference_chunk;

// What the backend under comparison must be made with.
inline constexpr bytes unit = 4_KiB;
inline constexpr bytes capacity = 64 * unit;
inline constexpr std::size_t max_mappings = 5;

/// The seed of this run: VTENSOR_TEST_SEED, or a new one each time.
inline unsigned long chosen_seed() {
    const char* const wanted = std::getenv("VTENSOR_TEST_SEED");
    return wanted != nullptr ? std::strtoul(wanted, nullptr, 10) : std::random_device{}();
}

/// `Subject` makes the backend: `backend()` is it, `physical_bytes()` a figure of its memory that is not its
/// own, `look()` takes a picture of the page table, `permission(where)` reads it: "rw-", "r--" or "---".
template <class Subject>
class comparison {
  public:
    explicit comparison(unsigned long seed) : random_{seed} {}

    void step() {
        switch (below(16)) {
        case 0:
            return reserve();
        case 1:
            return release();
        case 2:
        case 3:
            return create();
        case 4:
            return destroy();
        case 5:
        case 6:
        case 7:
        case 8:
            return map();
        case 9:
        case 10:
        case 11:
        case 12:
            return set_access();
        default:
            return unmap();
        }
    }

    void compare_figures() {
        REQUIRE(real_.physical_bytes() == model_.physical_bytes());
        REQUIRE(subject_.physical_bytes() == model_.physical_bytes());
        REQUIRE(real_.mapped_bytes() == model_.mapped_bytes());
        REQUIRE(real_.mapping_count() == model_.mapping_count());
    }

    /// Every byte that was ever written and may be read is what it should be.
    void compare_bytes() {
        bool equal = true;
        for (const reserved& range : ranges_) {
            for (std::size_t page = 0; range.alive && page < range.pages; ++page) {
                for (bytes offset{0}; offset < unit; offset += spacing) {
                    const address where = range.start + (unit * page + offset);
                    if (!model_.may_touch(where, access_mode::read))
                        break;
                    if (const auto wanted = model_.read(where))
                        equal = equal && *where.to_pointer<std::byte>() == *wanted;
                }
            }
        }
        REQUIRE(equal);
    }

    /// The page table of the machine says what the model says.
    void compare_access() {
        subject_.look();
        for (const reserved& range : ranges_) {
            for (std::size_t page = 0; range.alive && page < range.pages; ++page) {
                const address where = range.start + unit * page;
                std::string wanted = "---";
                wanted[0] = model_.may_touch(where, access_mode::read) ? 'r' : '-';
                wanted[1] = model_.may_touch(where, access_mode::read_write) ? 'w' : '-';
                REQUIRE(subject_.permission(where) == wanted);
            }
        }
    }

    [[nodiscard]] std::size_t refusals() const { return refused_; }
    [[nodiscard]] std::size_t successes() const { return succeeded_; }
    [[nodiscard]] std::size_t times(errc code) const { return codes_[static_cast<std::size_t>(code)]; }

  private:
    struct reserved {
        address start;
        std::size_t pages = 0;
        bool alive = true;
    };
    struct placed {
        address start;
        bytes size;
    };
    struct created {
        typename Subject::backend_type::chunk_type real;
        reference_chunk modelled;
        bytes size;
    };
    static constexpr bytes spacing{512}; ///< between the bytes that are written and compared

    std::size_t below(std::size_t bound) {
        return std::uniform_int_distribution<std::size_t>{0, bound - 1}(random_);
    }
    bool once_in(std::size_t times) { return below(times) == 0; }

    template <class Real, class Modelled>
    void same(const Real& real, const Modelled& modelled) {
        REQUIRE(name(real.code()) == name(modelled.code()));
        if (!real.ok())
            REQUIRE(name(real.error().where) == name(modelled.error().where));
        ++(real.ok() ? succeeded_ : refused_);
        ++codes_[static_cast<std::size_t>(real.code())];
    }

    /// Mostly sensible, sometimes one of the sizes at which things break.
    bytes some_size(std::size_t most_units) {
        if (!once_in(12))
            return unit * (1 + below(most_units));
        const std::array odd{bytes{0},        bytes{1},
                             unit + bytes{7}, bytes{std::size_t{1} << 62},
                             capacity + unit, bytes{~std::size_t{0} - unit.count() + 1}};
        return odd[below(odd.size())];
    }
    bytes some_alignment() {
        const std::array alignments{bytes{0}, unit,     2 * unit,   16 * unit, bytes{1},
                                    bytes{3}, 5 * unit, 512 * unit, bytes{64}};
        return alignments[below(alignments.size())];
    }
    /// An address in or near one of the reservations, alive or not, or nowhere.
    address some_address() {
        if (ranges_.empty() || once_in(50))
            return once_in(2) ? address{} : address{unit.count()};
        const reserved& range = ranges_[below(ranges_.size())];
        const address where{range.start.value() + unit.count() * below(range.pages + 3) - unit.count()};
        return once_in(40) ? where + bytes{1 + below(unit.count())} : where;
    }
    /// A mapping that stands, in half of the cases; else anything, and mostly nonsense.
    placed some_place() {
        if (!mappings_.empty() && once_in(2))
            return mappings_[below(mappings_.size())];
        const address where = some_address();
        return {where, some_size(5)};
    }
    created some_chunk() {
        return chunks_.empty() || once_in(50) ? created{} : chunks_[below(chunks_.size())];
    }

    /// At most eight at once. The others are dead: released here, and perhaps reserved by somebody else.
    void reserve() {
        const bytes size = some_size(8);
        const bytes align = some_alignment();
        const auto real = real_.reserve(size, align);
        if (!real)
            return same(real, model_.reserve(size, align));
        ++succeeded_;
        if (size > capacity) { // a size that is odd for chunks, and fine for addresses
            REQUIRE(real_.release(*real, size).ok());
            return;
        }
        REQUIRE(model_.reserve_at(*real, size, align));
        const reserved range{*real, size / unit, true};
        for (reserved& old : ranges_) {
            if (!old.alive) {
                old = range;
                return;
            }
        }
        if (ranges_.size() < 8)
            ranges_.push_back(range);
        else
            same(real_.release(range.start, size), model_.release(range.start, size));
    }
    void release() {
        if (ranges_.empty())
            return;
        const reserved range = ranges_[below(ranges_.size())];
        const address where = once_in(8) ? some_address() : range.start;
        const bytes size = once_in(8) ? some_size(8) : unit * range.pages;
        const status real = real_.release(where, size);
        same(real, model_.release(where, size));
        if (!real)
            return;
        for (reserved& gone : ranges_) // the odd address may have been the start of another one
            gone.alive = gone.alive && gone.start != where;
    }
    void create() {
        const bytes size = some_size(4);
        const auto real = real_.create(size);
        const auto modelled = model_.create(size);
        same(real, modelled);
        if (!real)
            return;
        const created chunk{*real, *modelled, size};
        if (chunks_.size() < 40) // so that some slots hold chunks that are long destroyed
            return chunks_.push_back(chunk);
        created& slot = chunks_[below(chunks_.size())];
        same(real_.destroy(slot.real), model_.destroy(slot.modelled)); // nobody could name it any more
        slot = chunk;
    }
    void destroy() {
        const created chunk = some_chunk();
        same(real_.destroy(chunk.real), model_.destroy(chunk.modelled));
    }
    void map() {
        const created chunk = some_chunk();
        const address where = some_address();
        const status outcome = real_.map(where, chunk.real);
        same(outcome, model_.map(where, chunk.modelled));
        if (outcome)
            mappings_.push_back({where, chunk.size});
    }
    void set_access() {
        const auto [where, size] = some_place();
        const std::array wishes{access_mode::none, access_mode::read, access_mode::read_write,
                                access_mode::read_write, static_cast<access_mode>(once_in(20) ? 3 : 2)};
        const access_mode allowed = wishes[below(wishes.size())];
        const status outcome = real_.set_access(where, size, allowed);
        same(outcome, model_.set_access(where, size, allowed));
        if (outcome && allowed == access_mode::read_write)
            write(where, size);
    }
    void unmap() {
        const placed gone = some_place();
        const status outcome = real_.unmap(gone.start, gone.size);
        same(outcome, model_.unmap(gone.start, gone.size));
        if (!outcome)
            return;
        std::erase_if(mappings_, [&](const placed& mapping) {
            return gone.start <= mapping.start && mapping.start < gone.start + gone.size;
        });
    }
    void write(address where, bytes size) {
        for (bytes offset{0}; offset < size; offset += spacing) {
            const auto value = static_cast<std::byte>(below(256));
            *(where + offset).to_pointer<std::byte>() = value;
            model_.write(where + offset, std::span{&value, 1});
        }
    }

    std::mt19937_64 random_;
    Subject subject_;
    typename Subject::backend_type& real_ = subject_.backend();
    reference_backend model_{{unit, capacity, max_mappings}};
    std::vector<reserved> ranges_;
    std::vector<created> chunks_;
    std::vector<placed> mappings_; ///< those that stand
    std::size_t refused_ = 0;
    std::size_t succeeded_ = 0;
    std::array<std::size_t, 32> codes_{};
};

/// Runs the comparison on a fresh subject.
template <class Subject>
void compare_with_the_model() {
    const unsigned long seed = chosen_seed();
    std::cout << "VTENSOR_TEST_SEED=" << seed << std::endl;
    INFO("VTENSOR_TEST_SEED=" << seed);
    comparison<Subject> both{seed};
    constexpr std::size_t calls = 120'000;
    for (std::size_t call = 0; call < calls; ++call) {
        INFO("call " << call);
        both.step();
        both.compare_figures();
        if (call % 16 == 0)
            both.compare_bytes();
        if (call % 500 == 0)
            both.compare_access();
    }
    // The calls were a fair mixture: every refusal of the contract came up, and much succeeded.
    CHECK(both.successes() > calls / 4);
    CHECK(both.refusals() > calls / 4);
    for (const errc code :
         {errc::invalid_argument, errc::misaligned, errc::out_of_memory, errc::out_of_addresses,
          errc::too_many_mappings, errc::not_reserved, errc::already_mapped, errc::not_mapped,
          errc::partial_mapping, errc::still_mapped, errc::unknown_chunk}) {
        INFO(name(code));
        CHECK(both.times(code) > 0);
    }
}

} // namespace vtensor::conformance
