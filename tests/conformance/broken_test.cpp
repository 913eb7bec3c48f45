// SPDX-License-Identifier: Apache-2.0
// The suite on a backend that gets one thing wrong, named by the environment variable VTENSOR_BROKEN: it must
// fail, once for each name in CMakeLists.txt. Without a name nothing is wrong and it must pass.
#include <conformance/fixtures.hpp>

#include <cstdlib>
#include <string_view>
#include <tuple>

namespace vtensor::conformance {

/// The model, but for one fault.
class broken_backend : public testing::reference_backend {
    using right = testing::reference_backend;

  public:
    result<address> reserve(bytes size, bytes align) noexcept {
        if (is("reserves_nothing") && size == bytes{0})
            return right::reserve(granularity(), align);
        if (is("ignores_alignment"))
            return right::reserve(size, align.count() % 3 == 0 ? align : bytes{0});
        return right::reserve(size, align);
    }
    status release(address where, bytes size) noexcept {
        const status outcome = right::release(where, size);
        if (is("releases_anything") && outcome.code() == errc::not_reserved)
            return {};
        return is("names_no_verb") ? unnamed(outcome) : outcome;
    }
    result<testing::reference_chunk> create(bytes size) noexcept {
        if (is("rounds_up"))
            return right::create(round_up(size, granularity()));
        if (is("leaks"))
            static_cast<void>(right::create(size));
        return right::create(size);
    }
    status destroy(testing::reference_chunk chunk) noexcept {
        const status outcome = right::destroy(chunk);
        return is("destroys_twice") ? status{} : outcome;
    }
    status map(address where, testing::reference_chunk chunk) noexcept {
        const status outcome = right::map(where, chunk);
        if (is("maps_with_access") && outcome)
            return right::set_access(where, granularity(), access_mode::read_write);
        if (is("spoils_what_it_refuses") && outcome.code() == errc::already_mapped)
            static_cast<void>(right::destroy(chunk));
        if (is("checks_in_another_order") && outcome.code() == errc::unknown_chunk &&
            !where.is_multiple_of(granularity()))
            return error{errc::misaligned, verb::map, 0, bytes{0}};
        return outcome;
    }
    status set_access(address where, bytes size, access_mode allowed) noexcept {
        const status outcome = right::set_access(where, size, allowed);
        if (is("never_takes_access_away") && outcome && allowed == access_mode::none)
            return right::set_access(where, size, access_mode::read);
        if (is("takes_reading_for_writing") && outcome && allowed == access_mode::read)
            return right::set_access(where, size, access_mode::read_write);
        if (is("accepts_holes") && outcome.code() == errc::not_mapped)
            return {};
        return outcome;
    }
    status unmap(address where, bytes size) noexcept {
        const status outcome = right::unmap(where, size);
        if (is("confuses_codes") && outcome.code() == errc::partial_mapping)
            return error{errc::not_mapped, verb::unmap, 0, size};
        if (is("unmaps_one_at_a_time") && outcome.code() == errc::ok && size > 3 * granularity())
            return error{errc::partial_mapping, verb::unmap, 0, size};
        return outcome;
    }

  private:
    static bool is(std::string_view fault) noexcept {
        const char* const chosen = std::getenv("VTENSOR_BROKEN");
        return chosen != nullptr && fault == chosen;
    }
    static status unnamed(const status& outcome) noexcept {
        return outcome ? outcome : status{error{outcome.code(), verb::none, 0, bytes{0}}};
    }
};

using conformance_fixtures = std::tuple<model_fixture<broken_backend>>;

} // namespace vtensor::conformance

#include <conformance/conformance.hpp>
