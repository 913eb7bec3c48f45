// SPDX-License-Identifier: Apache-2.0
//
// What the replay says is what happened: compared with the pool, the backend, the kernel's mappings and the
// memory itself.
#include "recorded.hpp"

#include <support/catch.hpp>
#include <support/proc_maps.hpp>

#include <vtensor/adaptors/failing.hpp>
#include <vtensor/policy/defrag.hpp>
#include <vtensor/policy/eviction/by_caller.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <set>
#include <vector>

namespace memory_map::testing {
namespace {

using namespace vtensor;
using vtensor::adaptors::trace_event;

std::uint64_t read_at(address where) {
    std::uint64_t value = 0;
    std::memcpy(&value, where.to_pointer<const std::uint64_t>(), sizeof(value));
    return value;
}

/// Each chunk that can be written gets its number written into it, at one of its places. Afterwards all its
/// places must show the number: they are one memory, and that of no other chunk.
void check_memory(const memory_model& model) {
    std::set<std::uint64_t> written;
    for (const auto& [where, each] : model.mappings()) {
        if (each.allowed == access_mode::read_write && written.insert(each.chunk).second)
            std::memcpy(where.to_pointer<std::uint64_t>(), &each.chunk, sizeof(each.chunk));
    }
    std::map<std::uint64_t, std::uint64_t> shown;
    for (const auto& [where, each] : model.mappings()) {
        if (each.allowed == access_mode::none)
            continue;
        const auto [entry, fresh] = shown.emplace(each.chunk, read_at(where));
        CHECK(entry->second == read_at(where));
        if (written.contains(each.chunk))
            CHECK(entry->second == each.chunk);
    }
}

/// The kernel allows at each page what the model says, and nothing where nothing is mapped.
void check_kernel(const memory_model& model) {
    const auto lines = vtensor::testing::read_maps();
    for (const auto& [start, size] : model.reservations()) {
        for (bytes offset{0}; offset < size; offset += 4_KiB) {
            const address page = start + offset;
            const auto line = std::find_if(lines.begin(), lines.end(), [&](const auto& each) {
                return each.first <= page.value() && page.value() < each.last;
            });
            REQUIRE(line != lines.end());
            const auto behind = model.mappings().upper_bound(page);
            const bool any = behind != model.mappings().begin() &&
                             page < std::prev(behind)->first + std::prev(behind)->second.size;
            const access_mode allowed = any ? std::prev(behind)->second.allowed : access_mode::none;
            if (!any || allowed != access_mode::none) // the kernel is told of a mapping when it is accessible
                CHECK(line->memory_file == any);
            CHECK((line->permissions[0] == 'r') == (allowed != access_mode::none));
            CHECK((line->permissions[1] == 'w') == (allowed == access_mode::read_write));
        }
    }
}

template <class Value>
const Value& any_of(const std::vector<Value>& values, std::mt19937& random) {
    return values[random() % values.size()];
}

TEST_CASE("random calls, sensible and not, lead to what the machine shows") {
    host_backend memory;
    recorder notes;
    traced_host traced{memory, notes};
    std::mt19937 random{7};
    struct reservation {
        address start;
        bytes size;
    };
    std::vector<reservation> reservations;
    std::vector<host_backend::chunk_type> chunks;
    std::size_t refused = 0;
    const auto pages = [&](std::size_t most) { return (std::size_t{1} + random() % most) * 4_KiB; };
    for (int round = 0; round < 3000; ++round) {
        const unsigned what = static_cast<unsigned>(random() % 100);
        status outcome;
        if (reservations.empty() || what < 3) {
            const bytes size = pages(12);
            if (const auto where = traced.reserve(size, 0_B))
                reservations.push_back({*where, size});
        } else if (chunks.empty() || what < 12) {
            if (const auto made = traced.create(pages(2)))
                chunks.push_back(*made);
        } else if (what < 15) {
            const std::size_t chosen = random() % reservations.size();
            outcome = traced.release(reservations[chosen].start, reservations[chosen].size);
            if (outcome)
                reservations.erase(reservations.begin() + static_cast<std::ptrdiff_t>(chosen));
        } else if (what < 20) {
            outcome = traced.destroy(any_of(chunks, random)); // perhaps for the second time
        } else {
            const reservation& place = any_of(reservations, random);
            const address where = place.start + random() % (place.size / 4_KiB) * 4_KiB;
            const access_mode modes[] = {access_mode::none, access_mode::read, access_mode::read_write};
            if (what < 60)
                outcome = traced.map(where, any_of(chunks, random));
            else if (what < 85)
                outcome = traced.set_access(where, pages(4), modes[random() % 3]);
            else
                outcome = traced.unmap(where, pages(3));
        }
        refused += outcome.ok() ? std::size_t{0} : std::size_t{1};
        if (round % 50 == 0) {
            const memory_model model = replay(notes.entries());
            CHECK(model.totals().physical == memory.physical_bytes());
            check_memory(model);
            check_kernel(model);
        }
    }
    const memory_model model = replay(notes.entries());
    CHECK(refused > 300);
    CHECK(notes.dropped() == 0);
    CHECK(model.totals().shared > bytes{0});
    CHECK(model.totals().mapped > model.totals().shared);
    std::map<std::uint64_t, std::size_t> places;
    for (const auto& [where, each] : model.mappings())
        ++places[each.chunk];
    bytes shared;
    bytes mapped;
    for (const auto& [where, each] : model.mappings()) {
        mapped += each.size;
        shared += places[each.chunk] > 1 ? each.size : bytes{0};
    }
    CHECK(model.totals().shared == shared);
    CHECK(model.totals().mapped == mapped);
    for (const auto& [start, size] : std::map{model.mappings()})
        REQUIRE(memory.unmap(start, size.size).ok());
    for (const auto& [start, size] : model.reservations())
        REQUIRE(memory.release(start, size).ok());
}

/// Grows, shrinks, evicts and defragments three tensors; what is refused is refused.
template <class Backend, class Check>
void use_tensors(Backend& backend, Check check) {
    using tensor = virtual_tensor<float, Backend, growth::geometric<3, 2>, eviction::by_caller>;
    chunk_pool<Backend> pool{backend, {.chunk_size = 4_KiB, .limit = 96_KiB}};
    std::vector<tensor> tensors;
    for (int count = 0; count < 3; ++count) {
        if (auto made = tensor::try_create(pool, {64}, 500))
            tensors.push_back(*std::move(made));
    }
    std::mt19937 random{11};
    for (int round = 0; round < 40 && !tensors.empty(); ++round) {
        tensor& chosen = tensors[random() % tensors.size()];
        if (random() % 3 == 0 && chosen.rows() > 0 && chosen.live_rows() == chosen.rows()) {
            std::vector<slot_type> kept;
            for (slot_type slot = 0; slot < chosen.rows(); ++slot) {
                if (slot / 16 % 3 != 1)
                    kept.push_back(slot);
            }
            static_cast<void>(chosen.try_evict(kept));
            static_cast<void>(chosen.try_defragment(defrag::remap{}));
        } else {
            static_cast<void>(chosen.try_resize(random() % 300));
        }
        bytes reserved;
        bytes mapped;
        for (const tensor& each : tensors) {
            reserved += each.reserved_bytes();
            mapped += each.mapped_bytes();
        }
        check(figures{reserved, mapped, pool.stats().created, bytes{0}});
    }
    static_cast<void>(pool.trim());
}

TEST_CASE("the replay's figures are those of pool and tensors") {
    host_backend memory;
    recorder notes;
    traced_host traced{memory, notes};
    std::size_t most = 0;
    use_tensors(traced, [&](const figures& library) {
        const memory_model model = replay(notes.entries());
        CHECK(model.totals() == library);
        check_kernel(model);
        most = std::max(most, model.mappings().size());
    });
    CHECK(most > 15);
    CHECK(replay(notes.entries()).totals() == figures{});
    CHECK(replay(notes.entries()).reservations().empty());
}

TEST_CASE("the replay's figures are right whichever call failed") {
    host_backend memory;
    vtensor::adaptors::failing fragile{memory};
    std::size_t failures = 0;
    for (std::size_t k = 1; k < 400; k += 7) {
        recorder notes;
        vtensor::adaptors::tracing traced{fragile, notes};
        fragile.fail_call(k);
        use_tensors(traced,
                    [&](const figures& library) { CHECK(replay(notes.entries()).totals() == library); });
        failures += fragile.failures();
    }
    CHECK(failures > 20);
}

trace_event event(verb what, std::size_t where, std::size_t size, std::uint64_t chunk = 0) {
    trace_event made;
    made.what = what;
    made.where = address{std::uintptr_t{0x10'0000} + where};
    made.size = bytes{size};
    made.chunk = chunk;
    made.allowed = access_mode::read;
    return made;
}

TEST_CASE("a recording that lacks calls is refused, not drawn") {
    const auto refuses = [](const std::vector<trace_event>& before, const trace_event& last) {
        memory_model model;
        for (const trace_event& each : before)
            model.apply(each);
        CHECK_THROWS_AS(model.apply(last), replay_error);
    };
    const trace_event reserve = event(verb::reserve, 0, 0x4000);
    const trace_event create = event(verb::create, 0, 0x1000, 1);
    const trace_event map = event(verb::map, 0x1000, 0x1000, 1);
    refuses({}, event(verb::release, 0, 0x4000));
    refuses({}, event(verb::destroy, 0, 0, 1));
    refuses({reserve}, reserve);
    refuses({reserve}, event(verb::reserve, 0x3000, 0x4000));
    refuses({event(verb::reserve, 0x3000, 0x4000)}, reserve);
    refuses({reserve}, event(verb::release, 0, 0x1000));
    refuses({reserve}, map);
    refuses({create}, map);
    refuses({create}, create);
    refuses({}, event(verb::create, 0, 0x1000, 0));
    refuses({reserve, create, map}, map);
    refuses({reserve, create}, event(verb::map, 0x3800, 0x1000, 1));
    refuses({reserve, create, map}, event(verb::map, 0x1800, 0x1000, 1));
    refuses({reserve, create, map}, event(verb::map, 0x800, 0x1000, 1));
    refuses({reserve, create, map}, event(verb::release, 0, 0x4000));
    refuses({reserve, create, map}, event(verb::unmap, 0, 0x2000));
    refuses({reserve, create, map}, event(verb::unmap, 0x1000, 0x800));
    refuses({reserve, create, map}, event(verb::set_access, 0x1000, 0x2000));
    refuses({reserve, create, map, event(verb::destroy, 0, 0, 1)}, event(verb::destroy, 0, 0, 1));
    refuses({reserve, create, map, event(verb::destroy, 0, 0, 1)}, event(verb::map, 0x2000, 0x1000, 1));

    memory_model model; // and what failed is no contradiction
    trace_event failed = map;
    failed.outcome = errc::not_reserved;
    CHECK_NOTHROW(model.apply(failed));
    CHECK(model.totals() == figures{});
}

TEST_CASE("memory whose handle is gone lives until its last place goes") {
    memory_model model;
    for (const trace_event& each :
         {event(verb::reserve, 0, 0x4000), event(verb::create, 0, 0x1000, 1), event(verb::map, 0, 0x1000, 1),
          event(verb::map, 0x2000, 0x1000, 1), event(verb::destroy, 0, 0, 1)})
        model.apply(each);
    CHECK(model.totals() == figures{bytes{0x4000}, bytes{0x2000}, bytes{0x1000}, bytes{0x2000}});
    model.apply(event(verb::unmap, 0, 0x1000));
    CHECK(model.totals() == figures{bytes{0x4000}, bytes{0x1000}, bytes{0x1000}, bytes{0}});
    model.apply(event(verb::unmap, 0x2000, 0x1000));
    CHECK(model.totals() == figures{bytes{0x4000}, bytes{0}, bytes{0}, bytes{0}});
    CHECK(model.chunks().empty());
}

} // namespace
} // namespace memory_map::testing
