// SPDX-License-Identifier: Apache-2.0
//
// Several threads on one retire queue: owners that retire and grow, the mapper thread that grows ahead over
// retiring pages, a thread that reclaims and waits, and a device that runs what is queued.
#include "retire_scene.hpp"

#include "support/sanitizers.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <random>
#include <thread>
#include <vector>

using namespace vtensor;
using namespace vtensor::testing;

namespace {

constexpr std::size_t rounds = any_sanitizer ? 150 : 600;

/// Does what is queued, a step of a random stream at a time, until it is told to stop.
class running_device {
  public:
    running_device(stream_model<host_backend>& device, std::vector<model_stream> streams)
        : thread_{[this, &device, streams = std::move(streams)] {
              std::mt19937 random{7};
              while (!stop_) {
                  device.step(streams[random() % streams.size()]);
                  std::this_thread::yield();
              }
          }} {}
    ~running_device() {
        stop_ = true;
        thread_.join();
    }

  private:
    std::atomic<bool> stop_{false};
    std::thread thread_;
};

/// Appends, shrinks and retires rows of a tensor on its stream. What the rows hold is written and read by
/// kernels alone.
template <class Tensor>
void use(Tensor& tensor, stream_model<host_backend>& device, model_stream stream, std::uint32_t salt,
         std::atomic<std::size_t>& wrong) {
    std::mt19937 random{salt};
    std::size_t written = 0;
    for (std::size_t round = 0; round < rounds; ++round) {
        const std::size_t count = 1 + random() % 4;
        if (tensor.rows() + count <= tensor.max_rows() && tensor.try_append(count)) {
            const address where{tensor.data()};
            const std::size_t from = written * page_words;
            const std::size_t to = tensor.rows() * page_words;
            device.launch(stream, where + bytes{from * 4}, bytes{(to - from) * 4},
                          [=] { retire_scene::write(where, from, to, salt); });
            written = tensor.rows();
        }
        if (written > 0) {
            const address where{tensor.data()};
            const std::size_t to = written * page_words;
            device.launch(stream, where, bytes{to * 4},
                          [=, &wrong] { wrong += retire_scene::wrong_words(where, 0, to, salt); });
        }
        switch (random() % 6) {
        case 0:
            wrong += tensor.try_retire(stream) ? 0 : 1;
            break;
        case 1:
        case 2:
            wrong += tensor.try_resize(tensor.rows() / 2, stream) ? 0 : 1;
            break;
        case 3:
            wrong += tensor.try_trim(stream) ? 0 : 1;
            break;
        default:
            break;
        }
        written = std::min(written, tensor.rows());
        wrong += tensor.verify() ? 0 : 1;
    }
    wrong += tensor.try_retire(stream) ? 0 : 1;
}

} // namespace

TEST_CASE("owners, the mapper, a reclaimer and the device share a retire queue") {
    const bool waits = GENERATE(false, true);
    // Enough for every owner to have some, never for all to have what they want.
    retire_scene scene{{.limit = 40 * retire_page, .wait_for_retiring = waits}};
    const model_stream third = scene.device.make_stream();
    std::atomic<std::size_t> wrong{0};
    std::atomic<bool> done{false};
    {
        mapper thread;
        const running_device running{scene.device, {scene.first, scene.second, third}};
        std::thread reclaimer{[&] {
            while (!done) {
                wrong += scene.queue().reclaim() ? 0u : 1u;
                wrong += scene.queue().verify() ? 0u : 1u;
                wrong += scene.queue().wait_oldest() ? 0u : 1u;
                std::this_thread::yield();
            }
        }};
        std::vector<std::thread> owners;
        owners.emplace_back([&] {
            for (std::uint32_t life = 1; life <= 4; ++life) {
                retire_tensor<growth::look_ahead<2>> tensor{scene.pool, thread, {page_words}, 30};
                use(tensor, scene.device, scene.first, life << 20, wrong);
            }
        });
        owners.emplace_back([&] {
            for (std::uint32_t life = 1; life <= 4; ++life) {
                retire_tensor<growth::look_ahead<3>> tensor{scene.pool, thread, {page_words}, 30};
                use(tensor, scene.device, scene.second, life << 21, wrong);
            }
        });
        owners.emplace_back([&] {
            for (std::uint32_t life = 1; life <= 4; ++life) {
                retire_tensor<> tensor{scene.pool, {page_words}, 30};
                use(tensor, scene.device, third, life << 22, wrong);
            }
        });
        for (std::thread& owner : owners)
            owner.join();
        done = true;
        reclaimer.join();
    }
    CHECK(wrong == 0);
    REQUIRE(scene.queue().drain());
    scene.device.run_all();
    CHECK(wrong == 0);
    CHECK(scene.pages_in_use() == 0);
    CHECK(scene.host.mapped_bytes() == 0_B);
    CHECK(scene.host.reserved_bytes() == 0_B);
    const retire_stats stats = scene.queue().stats();
    CHECK(stats.revived > 0);
    CHECK(stats.reclaimed > 0);
}

TEST_CASE("pages that one thread's tensor retires are taken by another's that is short") {
    retire_scene scene{{.limit = 16 * retire_page, .wait_for_retiring = true}};
    std::atomic<std::size_t> wrong{0};
    {
        const running_device running{scene.device, {scene.first, scene.second}};
        std::vector<std::thread> owners;
        for (const model_stream stream : {scene.first, scene.second}) {
            owners.emplace_back([&, stream] {
                for (std::size_t round = 0; round < rounds; ++round) {
                    retire_tensor<> tensor{scene.pool, {page_words}, 16};
                    // Eight pages each fit at once; what the last rounds retired is waited for. The other
                    // thread may be the one that gets it.
                    std::size_t tries = 1;
                    while (!tensor.try_append(8) && tries < 1000)
                        ++tries;
                    wrong += tensor.rows() == 8 ? 0u : 1u;
                    scene.device.launch(stream, address{tensor.data()}, 8 * retire_page);
                    wrong += tensor.try_retire(stream) ? 0u : 1u;
                }
            });
        }
        for (std::thread& owner : owners)
            owner.join();
    }
    CHECK(wrong == 0);
    REQUIRE(scene.queue().drain());
    CHECK(scene.pages_in_use() == 0);
    CHECK(scene.host.reserved_bytes() == 0_B);
}

TEST_CASE("several threads may wait for the same event") {
    retire_scene scene;
    for (std::size_t round = 0; round < 20; ++round) {
        auto range = *retire_range::create(scene.pool, 4_pages, owner_id{});
        REQUIRE(range.grow_to(4_pages));
        scene.device.launch(scene.first, range.start(), 4 * retire_page);
        REQUIRE(range.retire_to(0_pages, scene.first));
        scene.device.gather_waiters(4); // all are waiting before the event happens
        std::atomic<std::size_t> failed{0};
        std::vector<std::thread> threads;
        for (int number = 0; number < 4; ++number) {
            threads.emplace_back([&, number] {
                const bool ok = number == 0 ? scene.queue().drain().ok() : scene.queue().wait_oldest().ok();
                failed += ok ? 0u : 1u;
            });
        }
        for (std::thread& one : threads)
            one.join();
        scene.device.gather_waiters(0);
        REQUIRE(failed == 0);
        REQUIRE(range.retiring() == 0_pages);
        REQUIRE(scene.queue().verify());
    }
    CHECK(scene.queue().stats().events == 1);
    CHECK(scene.device.events() == 1);
}
