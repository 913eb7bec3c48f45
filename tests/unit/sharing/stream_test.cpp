// SPDX-License-Identifier: Apache-2.0
//
// Sharing and copy-on-write behind queued work: who writes or reads on a stream is done before a page is
// taken from him, nobody waits where nothing is taken, and what the CPU does not reach is copied on a stream
// or refused.
#include "support/catch.hpp"
#include "support/reference_backend.hpp"
#include "support/stream_model.hpp"

#include <vtensor/backends/host.hpp>
#include <vtensor/tensor/sharing_steps.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <string>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

constexpr sharing::map_all map_all{};

/// Host memory behind two streams; one row a page, so that a prefix is whole pages, unless said otherwise.
struct scene {
    using device_type = stream_model<host_backend>;
    using tensor_type = virtual_tensor<int, device_type>;

    ~scene() {
        device.run_all();
        for (const std::string& violation : device.violations())
            FAIL_CHECK(violation);
    }
    tensor_type make(std::size_t ints = 1024) { return {pool, {ints}, 100}; }
    /// Queues a kernel that writes `number` to the rows.
    void write(tensor_type& tensor, std::size_t first, std::size_t count, int number) {
        auto rows = tensor.view().rows(first, count);
        device.launch(stream, address{rows.data}, tensor.row_bytes() * count, [=]() mutable {
            for (std::size_t row = 0; row < count; ++row)
                rows(row, 0) = number;
        });
    }
    /// Queues a kernel that expects `number` in the rows.
    void read(const tensor_type& tensor, std::size_t first, std::size_t count, int number) {
        auto rows = tensor.view().rows(first, count);
        device.launch(stream, address{rows.data}, tensor.row_bytes() * count, [=, this] {
            for (std::size_t row = 0; row < count; ++row)
                wrong += rows(row, 0) != number ? 1u : 0u;
        });
    }

    host_backend host;
    device_type device{host};
    chunk_pool<device_type> pool{device};
    model_stream stream = device.make_stream();
    model_stream other_stream = device.make_stream();
    std::size_t wrong = 0;
};

} // namespace

TEST_CASE("the first to share waits for who writes the rows, those after it wait for nobody") {
    scene now;
    auto source = now.make();
    source.append(10);
    now.write(source, 0, 10, 7);
    auto forked = source.fork(map_all, now.stream);
    CHECK(now.device.host_waits() == 1);
    CHECK(forked.view()(9, 0) == 7);
    now.read(source, 0, 10, 7);
    now.read(forked, 0, 10, 7);
    const auto again = forked.fork(map_all, now.stream); // readers stay where they are
    auto longer = now.make();
    source.append(5);
    now.write(source, 10, 5, 8);
    longer.share_prefix_of(source, 10, map_all, now.stream);
    CHECK(now.device.host_waits() == 1);
    CHECK(now.device.queued() == 3);
    now.device.run_all();
    CHECK(now.wrong == 0);
    CHECK((source.verify() && forked.verify() && again.verify() && longer.verify() && now.pool.verify()));
}

TEST_CASE("part pages and rows that a rule copies are copied behind the work that writes them") {
    scene now;
    auto source = now.make(100); // 400 bytes
    source.append(15);           // a page and a half
    now.write(source, 0, 15, 7);
    auto copied = source.fork(sharing::copy_all{}, now.stream);
    CHECK(now.device.host_waits() == 0);
    auto shared = source.fork(map_all, now.stream);
    CHECK(now.device.host_waits() == 1);
    now.read(copied, 0, 15, 7);
    now.read(shared, 0, 15, 7);
    now.write(source, 11, 4, 9); // the source's own part page
    now.read(source, 11, 4, 9);
    now.read(shared, 11, 4, 7);
    now.device.run_all();
    CHECK(now.wrong == 0);
}

TEST_CASE("sharing that is taken back as part of something larger waits for the copy that it queued") {
    scene now;
    auto source = now.make(100);
    source.append(15);
    now.write(source, 0, 15, 7);
    auto other = now.make(100);
    vtensor::detail::sharing_step<scene::tensor_type> step;
    REQUIRE(step.run(other, source, 15, map_all, &now.stream));
    CHECK(other.rows() == 15);
    CHECK(now.device.queued() > 0);
    step.undo();
    CHECK(other.rows() == 0);
    CHECK(other.mapped_bytes() == 0_B);
    CHECK(now.pool.stats().created == source.mapped_bytes());
    source.view()(0, 0) = 7; // may be written again
    CHECK((source.verify() && other.verify() && now.pool.verify()));
}

TEST_CASE("a page that readers are queued on is replaced when they are done") {
    scene now;
    auto source = now.make();
    source.append(10);
    now.write(source, 0, 10, 7);
    auto forked = source.fork(map_all, now.stream);
    now.read(forked, 0, 10, 7);
    now.read(source, 0, 10, 7);
    const std::size_t waits = now.device.host_waits();
    forked.make_writable(2, 3, now.stream);
    CHECK(now.device.host_waits() == waits + 1);
    now.write(forked, 2, 3, 8);
    now.read(source, 0, 10, 7);
    now.read(forked, 2, 3, 8);
    now.read(forked, 5, 5, 7);
    now.device.run_all();
    CHECK(now.wrong == 0);
    CHECK(forked.shared_bytes() == 7 * 4_KiB);

    // Its own pages get their access back under the readers.
    now.read(source, 2, 3, 7);
    source.make_writable(2, 3, now.stream);
    CHECK(now.device.host_waits() == waits + 1);
    now.write(source, 2, 3, 9);
    now.device.run_all();
    CHECK(now.wrong == 0);
    CHECK((source.verify() && forked.verify() && now.pool.verify()));
}

TEST_CASE(
    "pages that readers are queued on are merged when they are done, and those that are the same at once") {
    scene now;
    auto one = now.make();
    auto other = now.make();
    for (auto* const each : {&one, &other}) {
        each->append(10);
        now.write(*each, 0, 10, 7);
        now.read(*each, 0, 10, 7);
    }
    CHECK(now.device.host_waits() == 0);
    other.merge_prefix_of(one, 8, now.stream);
    CHECK(now.device.host_waits() >= 1);
    CHECK(now.pool.stats().in_use == 12 * 4_KiB);
    now.read(one, 0, 10, 7);
    now.read(other, 0, 10, 7);
    const std::size_t waits = now.device.host_waits();
    other.merge_prefix_of(one, 8, now.stream); // readers stay where they are
    CHECK(now.device.host_waits() == waits);
    CHECK(now.device.queued() == 2);
    other.make_writable(3, 1, now.stream);
    now.write(other, 3, 1, 8);
    now.read(other, 3, 1, 8);
    now.read(one, 0, 10, 7);
    now.device.run_all();
    CHECK(now.wrong == 0);
    CHECK((one.verify() && other.verify() && now.pool.verify()));
}

TEST_CASE("pages that were taken back while earlier work reads them are not exchanged before it is done") {
    scene now;
    auto one = now.make();
    auto other = now.make();
    for (auto* const each : {&one, &other}) {
        each->append(10);
        now.write(*each, 0, 10, 7);
    }
    now.device.run_all();
    now.read(other, 0, 10, 7);
    other.resize(2, now.stream); // retires eight pages under the reader
    other.append(8);             // and takes them back, with what is in them
    other.merge_prefix_of(one, 10, now.other_stream);
    now.read(other, 0, 10, 7);
    now.device.run_all();
    CHECK(now.wrong == 0);
    CHECK(now.pool.stats().in_use == 10 * 4_KiB);
    CHECK((one.verify() && other.verify() && now.pool.verify()));
}

TEST_CASE("shared pages retire like others, and are not taken back by who grows over them") {
    scene now;
    auto source = now.make();
    source.append(10);
    now.write(source, 0, 10, 7);
    auto forked = source.fork(map_all, now.stream);
    now.read(forked, 0, 10, 7);
    forked.resize(4, now.stream);
    CHECK(forked.retiring_bytes() == 6 * 4_KiB);
    CHECK(source.shared_bytes() == 10 * 4_KiB); // six of them are still mapped for the readers
    const std::size_t waits = now.device.host_waits();
    forked.append(3);
    CHECK(now.device.host_waits() == waits + 1);
    CHECK(forked.retiring_bytes() == 0_B); // what came due with them
    now.write(forked, 4, 3, 8);
    now.read(source, 0, 10, 7);
    now.device.run_all();
    CHECK(now.wrong == 0);
    CHECK(forked.shared_bytes() == 4 * 4_KiB);
    forked.retire(now.stream);
    source.retire(now.stream);
    REQUIRE(now.pool.retiring().drain());
    CHECK(now.pool.stats().in_use == 0_B);
    CHECK((source.verify() && forked.verify() && now.pool.verify()));
}

TEST_CASE("a tensor whose pages still retire waits for them before it shares those of another") {
    scene now;
    auto source = now.make();
    source.append(10);
    now.write(source, 0, 10, 7);
    now.device.run_all();
    auto other = now.make();
    other.append(10);
    now.write(other, 0, 10, 5);
    now.read(other, 0, 10, 5);
    other.retire(now.stream);
    other.share_prefix_of(source, 8, map_all, now.other_stream);
    CHECK(other.retiring_bytes() == 0_B);
    now.read(other, 0, 8, 7);
    now.device.run_all();
    CHECK(now.wrong == 0);
    CHECK(other.verify());
}

TEST_CASE("the mapper thread stops at shared pages that retire, and does not wait for them") {
    using device_type = stream_model<host_backend>;
    host_backend host;
    device_type device{host};
    virtual_tensor<int, device_type, growth::look_ahead<8>>::pool_type pool{device};
    mapper thread;
    virtual_tensor<int, device_type, growth::look_ahead<8>> source{pool, thread, {1024}, 100};
    const model_stream stream = device.make_stream();
    source.append(10);
    thread.drain();
    auto forked = source.fork(map_all, stream);
    device.launch(stream, address{forked.data()}, 10 * 4_KiB);
    forked.resize(1, stream);
    const std::size_t waits = device.host_waits();
    forked.resize(0, stream); // then page 0 is the next, which is shared and retires
    forked.resize(0, stream);
    thread.drain();
    CHECK(device.host_waits() == waits);
    forked.append(1)(0, 0) = 3;
    CHECK(device.host_waits() == waits + 1);
    thread.drain();
    CHECK(forked.look_ahead_status());
    CHECK(forked.mapped_rows() == 9);
    CHECK(source.view()(0, 0) == 0);
    CHECK((source.verify() && forked.verify()));
    for (const std::string& violation : device.violations())
        FAIL_CHECK(violation);
}

TEST_CASE("memory that the CPU does not reach is copied on a stream, or not at all") {
    using device_type = stream_model<reference_backend>;
    reference_backend memory;
    device_type device{memory};
    chunk_pool<device_type> pool{device};
    const model_stream stream = device.make_stream();
    virtual_tensor<int, device_type> source{pool, {100}, 1000};
    source.append(100); // 9 whole pages and a part
    virtual_tensor<int, device_type> other{pool, {100}, 1000};

    const status refused = other.try_share_prefix_of(source, 100);
    CHECK(refused.code() == errc::unsupported);
    CHECK(refused.error().where == verb::share);
    CHECK(other.mapped_bytes() == 0_B);
    CHECK(source.shared_bytes() == 0_B);
    CHECK(source.try_fork().code() == errc::unsupported);
    other.share_prefix_of(source, 100, map_all, stream);
    CHECK(other.shared_bytes() == 9 * 4_KiB);
    CHECK(other.try_make_writable(0, 1).code() == errc::unsupported);
    other.make_writable(0, 1, stream);
    CHECK(other.shared_bytes() == 8 * 4_KiB);
    other.resize(50);
    CHECK(other.try_append(1).code() == errc::unsupported);
    CHECK(other.rows() == 50);
    CHECK(other.try_prepare(60).code() == errc::unsupported);
    CHECK(other.try_append(1, stream));
    CHECK(other.rows() == 51);
    CHECK(other.try_append(1000, stream).code() == errc::limit_exceeded);
    CHECK(other.try_append(1)); // the page is its own by now
    other.resize(20, stream);
    other.resize(25, stream);
    CHECK(other.rows() == 25);

    virtual_tensor<int, device_type> whole{pool, {1024}, 1000}; // whole pages need no copy
    whole.append(10);
    const auto forked = whole.fork();
    CHECK(forked.shared_bytes() == 10 * 4_KiB);
    device.run_all();
    CHECK(device.violations().empty());
    CHECK((source.verify() && other.verify() && forked.verify() && pool.verify()));
}
