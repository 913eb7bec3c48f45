// SPDX-License-Identifier: Apache-2.0
//
// The mapper thread by itself: order, repetition, cancelling, and its end.
#include "probe_backend.hpp"

#include "support/catch.hpp"

#include <vtensor/memory/mapper.hpp>

#include <atomic>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

using namespace vtensor;
using vtensor::testing::eventually;

namespace {

/// Counts its runs, and does not return from one while the gate is shut.
struct gated_work {
    std::atomic<bool> open{true};
    std::atomic<bool> inside{false};
    std::atomic<int> runs{0};
    std::thread::id ran_on;
    mapper::request request{[](void* self) noexcept { static_cast<gated_work*>(self)->run(); }, this};

    void run() noexcept {
        inside = true;
        ran_on = std::this_thread::get_id();
        while (!open)
            std::this_thread::yield();
        ++runs;
        inside = false;
    }
};

/// Writes its number to a list. Only the mapper thread touches the list while requests are pending.
struct numbered_work {
    std::vector<int>* list;
    int number;
    mapper::request request{[](void* self) noexcept {
                                auto* const work = static_cast<numbered_work*>(self);
                                work->list->push_back(work->number);
                            },
                            this};
    numbered_work(std::vector<int>& to, int which) : list{&to}, number{which} {}
};

} // namespace

TEST_CASE("a mapper that has nothing to do starts, rests and stops") {
    mapper thread;
    thread.drain();
}

TEST_CASE("a request runs once on the mapper's thread") {
    mapper thread;
    gated_work work;
    REQUIRE(thread.submit(work.request));
    thread.drain();
    CHECK(work.runs == 1);
    CHECK(work.ran_on != std::this_thread::get_id());
    REQUIRE(thread.submit(work.request));
    thread.drain();
    CHECK(work.runs == 2);
}

TEST_CASE("a mapper that nobody wakes looks for requests by itself, and ends at once") {
    constexpr std::chrono::milliseconds often{1};
    gated_work running;
    gated_work queued;
    {
        mapper thread{often};
        thread.drain();
        for (int times = 1; times <= 3; ++times) {
            REQUIRE(thread.submit(running.request));
            thread.drain();
            CHECK(running.runs == times);
            CHECK(running.ran_on != std::this_thread::get_id());
        }
        REQUIRE(thread.submit(queued.request));
        thread.cancel(queued.request);
        thread.drain();
        CHECK(queued.runs <= 1);
        CHECK_FALSE(queued.request.is_linked());
    }
    mapper seldom{std::chrono::hours{24}}; // its end wakes it all the same
    REQUIRE(seldom.submit(queued.request));
}

TEST_CASE("requests run in the order of their submission") {
    std::vector<int> list;
    std::vector<std::unique_ptr<numbered_work>> works;
    for (int number = 0; number < 20; ++number)
        works.push_back(std::make_unique<numbered_work>(list, number));
    mapper thread;
    gated_work first;
    first.open = false;
    REQUIRE(thread.submit(first.request));
    for (const auto& work : works)
        REQUIRE(thread.submit(work->request));
    first.open = true;
    thread.drain();
    REQUIRE(list.size() == 20);
    for (int number = 0; number < 20; ++number)
        CHECK(list[static_cast<std::size_t>(number)] == number);
}

TEST_CASE("a request is queued at most once, and one that is running runs again") {
    mapper thread;
    gated_work blocker;
    gated_work work;
    blocker.open = false;
    REQUIRE(thread.submit(blocker.request));
    REQUIRE(eventually([&] { return blocker.inside.load(); }));
    for (int times = 0; times < 5; ++times)
        REQUIRE(thread.submit(work.request));
    REQUIRE(thread.submit(blocker.request)); // it is running: once more
    blocker.open = true;
    thread.drain();
    CHECK(work.runs == 1);
    CHECK(blocker.runs == 2);
}

TEST_CASE("a cancelled request does not run, and the others do") {
    mapper thread;
    gated_work blocker;
    gated_work cancelled;
    gated_work kept;
    blocker.open = false;
    REQUIRE(thread.submit(blocker.request));
    REQUIRE(thread.submit(cancelled.request));
    REQUIRE(thread.submit(kept.request));
    thread.cancel(cancelled.request);
    thread.cancel(cancelled.request); // it is not there any more: nothing to do
    blocker.open = true;
    thread.drain();
    CHECK(cancelled.runs == 0);
    CHECK(kept.runs == 1);
    REQUIRE(thread.submit(cancelled.request));
    thread.drain();
    CHECK(cancelled.runs == 1);
}

TEST_CASE("cancelling a request that is running waits until it is done") {
    mapper thread;
    auto work = std::make_unique<gated_work>();
    work->open = false;
    REQUIRE(thread.submit(work->request));
    REQUIRE(eventually([&] { return work->inside.load(); }));
    std::thread opener{[&] {
        std::this_thread::sleep_for(std::chrono::milliseconds{5});
        work->open = true;
    }};
    thread.cancel(work->request);
    CHECK(work->runs == 1);
    CHECK_FALSE(work->inside);
    opener.join();
    work.reset(); // the sanitizers would see a run that went on
    thread.drain();
}

TEST_CASE("a mapper that goes finishes the request it runs and drops the queued ones") {
    gated_work running;
    gated_work queued;
    gated_work also_queued;
    running.open = false;
    {
        std::optional<mapper> thread;
        thread.emplace();
        REQUIRE(thread->submit(running.request));
        REQUIRE(eventually([&] { return running.inside.load(); }));
        REQUIRE(thread->submit(queued.request));
        REQUIRE(thread->submit(also_queued.request));
        std::thread opener{[&] {
            std::this_thread::sleep_for(std::chrono::milliseconds{5});
            running.open = true;
        }};
        thread.reset();
        opener.join();
    }
    CHECK(running.runs == 1);
    CHECK(queued.runs + also_queued.runs == 0);
    CHECK_FALSE(queued.request.is_linked());

    mapper next; // a dropped request can be given to another mapper
    REQUIRE(next.submit(queued.request));
    next.drain();
    CHECK(queued.runs == 1);
}

TEST_CASE("a mapper that is going refuses new requests") {
    struct submitter {
        mapper* thread = nullptr;
        gated_work other;
        std::atomic<bool> started{false};
        status last;
        mapper::request request{[](void* self) noexcept { static_cast<submitter*>(self)->run(); }, this};

        void run() noexcept {
            started = true;
            do
                last = thread->submit(other.request);
            while (last);
        }
    };
    submitter work;
    {
        mapper thread;
        work.thread = &thread;
        REQUIRE(thread.submit(work.request));
        REQUIRE(eventually([&] { return work.started.load(); }));
    }
    CHECK(work.last.code() == errc::shut_down);
    CHECK(work.other.runs == 0);
}

TEST_CASE("many threads submit and cancel their own requests without losing one") {
    constexpr int threads = 4;
    constexpr int rounds = 500;
    mapper shared;
    std::atomic<int> lost{0};
    std::vector<std::thread> owners;
    for (int owner = 0; owner < threads; ++owner) {
        owners.emplace_back([&, owner] {
            for (int round = 0; round < rounds; ++round) {
                gated_work work;
                if (!shared.submit(work.request))
                    ++lost;
                if ((round + owner) % 3 == 0) {
                    shared.cancel(work.request);
                    if (work.runs > 1)
                        ++lost;
                } else if (!eventually([&] { return work.runs == 1; })) {
                    ++lost;
                }
                shared.cancel(work.request); // before it goes out of scope
            }
        });
    }
    for (std::thread& owner : owners)
        owner.join();
    shared.drain();
    CHECK(lost == 0);
}
