// SPDX-License-Identifier: Apache-2.0
//
// Defragmentation behind queued work: copies take their place in the stream and nobody waits; pages change
// places only when nothing reads them any more, whichever stream it was on; what cannot be copied is refused.
#include "support/reference_backend.hpp"
#include "support/stream_model.hpp"
#include "world.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/memory/measure_costs.hpp>

#include <string>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

/// Host memory behind two streams, and kernels that know what they must read.
struct scene {
    using device_type = stream_model<host_backend>;
    using tensor_type = evicting_tensor<device_type>;

    ~scene() {
        for (const std::string& violation : device.violations())
            FAIL_CHECK(violation);
        CHECK(wrong_reads == 0);
    }
    /// Queues a kernel that reads all rows as they are now.
    void read(model_stream stream, const tensor_type& tensor) {
        std::vector<position_type> positions(tensor.rows());
        for (std::size_t slot = 0; slot < tensor.rows(); ++slot)
            positions[slot] =
                tensor.positions().empty() ? static_cast<position_type>(slot) : tensor.positions()[slot];
        const auto view = tensor.view();
        const address where{view.data};
        device.launch(stream, where, tensor.stats().used, [=, this] {
            for (std::size_t slot = 0; slot < positions.size(); ++slot) {
                for (std::size_t column = 0; column < view.extents[1]; ++column)
                    wrong_reads += positions[slot] != no_position &&
                                           view(slot, column) != byte_of(positions[slot], column)
                                       ? 1u
                                       : 0u;
            }
        });
    }

    host_backend host;
    device_type device{host};
    chunk_pool<device_type> pool{device};
    model_stream first = device.make_stream();
    model_stream second = device.make_stream();
    std::size_t wrong_reads = 0;
};

std::vector<slot_type> range(slot_type first, slot_type end) {
    std::vector<slot_type> slots;
    for (slot_type slot = first; slot < end; ++slot)
        slots.push_back(slot);
    return slots;
}

} // namespace

TEST_CASE("copies are queued behind the work that reads the rows, and nobody waits") {
    scene now;
    scene::tensor_type tensor{now.pool, {1000}, 100}; // rows over the edges of pages
    REQUIRE(append_filled(tensor, 60));
    now.read(now.first, tensor);
    std::vector<slot_type> kept = range(2, 9);
    const auto tail = range(30, 41);
    kept.insert(kept.end(), tail.begin(), tail.end());
    tensor.evict(kept);
    for (const std::size_t number : {1u, 2u, 7u}) { // the first does the work, the others find it done
        REQUIRE(tensor.try_defragment(numbered_policy{number}, now.first));
        now.read(now.first, tensor);
    }
    CHECK(now.device.host_waits() == 0);
    CHECK(tensor.rows() == kept.size());
    CHECK(tensor.mapped_bytes() == round_up(18'000_B, 4_KiB));
    CHECK(tensor.retiring_bytes() == round_up(60'000_B, 4_KiB) - tensor.mapped_bytes());
    now.device.run_all();
    CHECK(wrong_bytes(tensor) == 0);
    REQUIRE(now.pool.retiring().reclaim());
    CHECK(tensor.retiring_bytes() == 0_B);
    CHECK(now.host.mapped_bytes() == tensor.mapped_bytes());
    CHECK(tensor.verify());
}

TEST_CASE("pages change places when the work queued on the stream is done") {
    scene now;
    scene::tensor_type tensor{now.pool, {1024}, 100};
    REQUIRE(append_filled(tensor, 64));
    now.read(now.first, tensor);
    tensor.evict(range(20, 64));
    REQUIRE(tensor.try_defragment(defrag::remap{}, now.first));
    CHECK(now.device.host_waits() == 1);
    CHECK(tensor.rows() == 44);
    CHECK(tensor.retiring_bytes() == 0_B);
    CHECK(now.host.mapped_bytes() == 44_KiB);
    CHECK(wrong_bytes(tensor) == 0);
    // Both: pages change places, and then rows are copied from pages that leave behind the copies.
    tensor.evict(range(1, 44));
    now.read(now.first, tensor);
    REQUIRE(append_filled(tensor, 20));
    std::vector<slot_type> kept{1};
    const auto tail = range(40, 62);
    kept.insert(kept.end(), tail.begin(), tail.end());
    tensor.evict(kept);
    defrag::plan plan;
    REQUIRE(tensor.try_defragment(defrag::hybrid{page_worth(1)}, plan, now.first));
    CHECK((!plan.blocks.empty() && !plan.rows.empty()));
    now.device.run_all();
    CHECK(wrong_bytes(tensor) == 0);
    CHECK(tensor.rows() == kept.size());
    CHECK(tensor.verify());
}

TEST_CASE("pages that were taken back change places only after those who read them before") {
    scene now;
    scene::tensor_type tensor{now.pool, {1024}, 100};
    REQUIRE(append_filled(tensor, 64));
    now.read(now.second, tensor);
    tensor.resize(40, now.second); // six pages retire behind the second stream,
    const auto row = tensor.append(1);
    for (std::size_t column = 0; column < 1024; ++column) // and one comes back, with the same content
        REQUIRE(row(0, column) == byte_of(40, column));
    tensor.evict(range(20, 41));
    CHECK(now.device.queued() == 2);
    REQUIRE(tensor.try_defragment(defrag::remap{}, now.first)); // knows nothing of the second
    CHECK(tensor.rows() == 21);
    CHECK(wrong_bytes(tensor) == 0);
    CHECK(tensor.verify());
    now.device.run_all();
    REQUIRE(now.pool.retiring().drain());
    CHECK(now.host.mapped_bytes() == tensor.mapped_bytes());
}

TEST_CASE("memory that nobody can copy is remapped, or left alone") {
    reference_backend memory;
    chunk_pool<reference_backend> pool{memory};
    evicting_tensor<reference_backend> tensor{pool, {1024}, 100};
    tensor.append(40);
    const auto place = [&](std::size_t slot) { return address{tensor.data()} + 1024_B * slot; };
    for (std::size_t slot = 0; slot < 40; ++slot) {
        const std::byte stamp[] = {std::byte{static_cast<unsigned char>(slot)}};
        memory.write(place(slot), stamp);
    }
    tensor.evict(range(13, 40));
    const bytes mapped = memory.mapped_bytes();
    CHECK(tensor.try_defragment(defrag::compact{}).code() == errc::unsupported);
    CHECK(tensor.rows() == 40);
    CHECK(memory.mapped_bytes() == mapped);
    REQUIRE(tensor.try_defragment(defrag::remap{}));
    CHECK(tensor.rows() == 28);
    for (std::size_t slot = 0; slot < 28; ++slot) {
        if (tensor.positions()[slot] != no_position)
            CHECK(memory.read(place(slot)) ==
                  std::byte{static_cast<unsigned char>(tensor.positions()[slot])});
        CHECK(memory.may_touch(place(slot), access_mode::read_write));
    }
    CHECK(memory.mapped_bytes() == 28_KiB);
    CHECK(tensor.verify());
    CHECK(try_measure_costs(pool).code() == errc::unsupported);
}

TEST_CASE("costs are measured on the pool's own memory, and leave it as it was") {
    host_backend host;
    chunk_pool<host_backend> pool{host, {.chunk_size = 64_KiB, .limit = 1_MiB}};
    const defrag::costs costs = measure_costs(pool);
    CHECK(costs.known());
    CHECK(costs.copied_byte > 0);
    CHECK(costs.remapped_page > 0);
    CHECK(pool.stats().in_use == 0_B);
    CHECK(host.mapped_bytes() == 0_B);
    CHECK(host.reserved_bytes() == 0_B);
    REQUIRE(pool.resize_limit(128_KiB)); // two pages are too few to measure anything
    CHECK(try_measure_costs(pool).code() == errc::limit_exceeded);

    scene now;
    const auto queued = try_measure_costs(now.pool, 1_MiB, now.first);
    REQUIRE(queued);
    CHECK(queued->known());
    CHECK(now.pool.stats().in_use == 0_B);
    CHECK(now.device.queued() == 0);
}
