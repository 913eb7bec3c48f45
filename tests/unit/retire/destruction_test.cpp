// SPDX-License-Identifier: Apache-2.0
//
// Tensors, pools and backends that go while work is queued on pages that retire.
#include "retire_scene.hpp"

#include <algorithm>
#include <optional>
#include <vector>

using namespace vtensor;
using namespace vtensor::testing;

TEST_CASE("a tensor may be destroyed while queued work reads what it retired") {
    retire_scene scene;
    std::optional<retire_tensor<>> tensor;
    tensor.emplace(scene.pool, row_shape{page_words}, std::size_t{8});
    tensor->append(5);
    const address start{tensor->data()};
    scene.write(start, 0, 5 * page_words, 2);
    scene.read(scene.first, start, 0, 5 * page_words, 2);
    const bytes reserved = scene.host.reserved_bytes();

    SECTION("all of it") { tensor->retire(scene.first); }
    SECTION("some of it, taken back before") {
        tensor->retire(scene.first);
        tensor->append(2); // nobody names a stream for these two, and they are read all the same
    }
    SECTION("some of it, with pages of its own around") {
        tensor->retire(scene.first);
        tensor->append(7);
    }
    tensor.reset();
    CHECK(scene.device.host_waits() == 0);
    CHECK(scene.pages_in_use() == 5);
    CHECK(scene.host.reserved_bytes() == reserved); // nobody else gets these addresses
    REQUIRE(scene.queue().reclaim());
    CHECK(scene.pages_in_use() == 5);
    CHECK(kernel_range(start, 5 * retire_page).accessible == 5 * retire_page);
    scene.device.run_all();
    REQUIRE(scene.queue().reclaim());
    CHECK(scene.pages_in_use() == 0);
    CHECK(scene.host.reserved_bytes() == 0_B);
    CHECK(scene.host.mapped_bytes() == 0_B);
}

TEST_CASE("a tensor whose retirement is over gives its addresses back at once") {
    retire_scene scene;
    {
        retire_tensor<> tensor{scene.pool, {page_words}, 8};
        tensor.append(5);
        tensor.retire(scene.first);
        scene.device.run_all();
        REQUIRE(scene.queue().reclaim());
        tensor.append(2);
    }
    CHECK(scene.host.reserved_bytes() == 0_B);
    CHECK(scene.pages_in_use() == 0);
}

TEST_CASE("assigning over a tensor leaves its retiring pages to the queue") {
    retire_scene scene;
    retire_tensor<> tensor{scene.pool, {page_words}, 8};
    tensor.append(3);
    scene.device.launch(scene.first, address{tensor.data()}, 3 * retire_page);
    tensor.retire(scene.first);
    tensor = retire_tensor<>{scene.pool, {page_words}, 4};
    tensor.append(2);
    CHECK(scene.pages_in_use() == 5);
    scene.device.run_all();
    REQUIRE(scene.queue().reclaim());
    CHECK(scene.pages_in_use() == 2);
    CHECK(scene.host.reserved_bytes() == 4 * retire_page);
}

TEST_CASE("a pool that goes waits for what retires, for the events and for no more") {
    host_backend host;
    stream_model<host_backend> device{host};
    const model_stream busy = device.make_stream();
    const model_stream other = device.make_stream();
    {
        retire_backend::upstream_type counted{device};
        retire_backend backend{counted};
        retire_pool pool{backend};
        retire_tensor<> survivor{pool, {page_words}, 4};
        {
            retire_tensor<> tensor{pool, {page_words}, 8};
            tensor.append(4);
            device.launch(busy, address{tensor.data()}, 4 * retire_page);
            tensor.resize(2, busy);
            device.launch(other, address{tensor.data()}, 2 * retire_page);
            tensor.retire(other);
        }
        survivor.append(1);
        CHECK(host.mapped_bytes() == 5 * retire_page);
    }
    CHECK(device.violations().empty());
    CHECK(device.queued() == 0);
    CHECK(device.host_waits() == 2);
    CHECK(device.events() == 0);
    CHECK(host.mapped_bytes() == 0_B);
    CHECK(host.reserved_bytes() == 0_B);
    CHECK(host.physical_bytes() == 0_B);
}

TEST_CASE("a pool that goes gives everything back although each backend call fails once") {
    std::size_t met = 1;
    std::size_t loops = 0;
    for (std::size_t k = 1; met != 0; ++k, ++loops) {
        REQUIRE(k < 100);
        host_backend host;
        stream_model<host_backend> device{host};
        retire_backend::upstream_type counted{device};
        retire_backend backend{counted};
        const model_stream stream = device.make_stream();
        {
            retire_pool pool{backend};
            retire_tensor<> tensor{pool, {page_words}, 8};
            tensor.append(4);
            device.launch(stream, address{tensor.data()}, 4 * retire_page);
            tensor.resize(2, stream);
            tensor.retire(stream);
            tensor.append(1);
            backend.fail_call(k, errc::native_failure);
        }
        met = backend.failures();
        CAPTURE(k);
        CHECK(device.violations().empty());
        CHECK(device.events() == 0);
        CHECK(host.mapped_bytes() == 0_B);
        CHECK(host.reserved_bytes() == 0_B);
        CHECK(host.physical_bytes() == 0_B);
    }
    // Two waits, two unmaps, one release, four chunks, two events, and the loop that met no failure.
    CHECK(loops == 12);
}

TEST_CASE("pages whose event can never be waited for stay mapped, out of everybody's reach") {
    host_backend host;
    {
        stream_model<host_backend> device{host};
        const model_stream stream = device.make_stream();
        address start;
        std::size_t wrong = 0;
        {
            retire_backend::upstream_type counted{device};
            retire_backend backend{counted};
            retire_pool pool{backend};
            retire_tensor<> tensor{pool, {page_words}, 8};
            tensor.append(3);
            start = address{tensor.data()};
            retire_scene::write(start, 0, 3 * page_words, 8);
            device.launch(stream, start, 3 * retire_page,
                          [&] { wrong = retire_scene::wrong_words(start, 0, 3 * page_words, 8); });
            tensor.retire(stream);
            tensor.append(1);
            backend.fail_from(1, errc::native_failure, {verb::wait, verb::query});
        }
        CHECK(host.mapped_bytes() == 3 * retire_page);
        CHECK(host.reserved_bytes() == 8 * retire_page);
        device.run_all();
        CHECK(wrong == 0);
        CHECK(device.violations().empty());
        CHECK(device.events() == 0);
    }
    CHECK(host.physical_bytes() == 3 * retire_page); // given up, alive behind the lost addresses
}

TEST_CASE("retiring pages that can never be unmapped stay so and keep the rest from nobody") {
    host_backend host;
    {
        stream_model<host_backend> device{host};
        const model_stream stream = device.make_stream();
        retire_backend::upstream_type counted{device};
        retire_backend backend{counted};
        address lost;
        {
            retire_pool pool{backend};
            {
                retire_tensor<> tensor{pool, {page_words}, 8};
                tensor.append(3);
                lost = address{tensor.data()};
                tensor.retire(stream);
                tensor.append(1);
            }
            device.run_all();
            backend.fail_from(1, errc::native_failure, {verb::unmap});
            CHECK_FALSE(pool.retiring().reclaim());
            CHECK(pool.retiring().stats().due == 3);
        }
        backend.disarm();
        CHECK(host.mapped_bytes() == 3 * retire_page);
        CHECK(host.reserved_bytes() == 8 * retire_page);
        CHECK(device.events() == 0);
        retire_pool pool{backend};
        retire_tensor<> next{pool, {page_words}, 8};
        next.append(8);
        const address start{next.data()};
        CHECK((start >= lost + 8 * retire_page || start + 8 * retire_page <= lost));
    }
    CHECK(host.physical_bytes() == 3 * retire_page);
}

TEST_CASE("a destroyed tensor whose own pages cannot be unmapped does not lose those that retire") {
    retire_scene scene;
    address start;
    {
        retire_tensor<> tensor{scene.pool, {page_words}, 8};
        tensor.append(6);
        start = address{tensor.data()};
        scene.device.launch(scene.first, start + 4 * retire_page, 2 * retire_page);
        tensor.resize(4, scene.first);
        scene.backend.fail_from(1, errc::native_failure, {verb::unmap});
    }
    scene.backend.disarm();
    CHECK(scene.pages_in_use() == 6);
    scene.device.run_all();
    REQUIRE(scene.queue().reclaim());
    CHECK(scene.pages_in_use() == 4); // lost with their addresses
    CHECK(scene.calls(verb::release) == 0);
    CHECK(scene.host.reserved_bytes() == 8 * retire_page);
    CHECK(scene.host.mapped_bytes() == 4 * retire_page);
}
