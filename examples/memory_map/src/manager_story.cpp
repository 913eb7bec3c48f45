// SPDX-License-Identifier: Apache-2.0
#include "manager_story.hpp"

#include <vtensor/adaptors/tracing.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/kv/manager.hpp>
#include <vtensor/kv/per_layer_cache.hpp>

#include <algorithm>
#include <memory>
#include <new>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace memory_map {

namespace {

namespace kv = vtensor::kv;
using kv::sequence_id;

using memory = vtensor::adaptors::tracing<vtensor::host_backend, recorder>;
using layer = kv::per_layer_cache<vtensor::float16, memory, vtensor::growth::exact>;
using pool_type = layer::pool_type;
using manager_type = kv::manager<kv::kv_cache<layer>>;
using text = std::vector<kv::token_id>;

constexpr std::size_t page_rows = 16; // tokens that fill a page
constexpr std::size_t longest = 10 * page_rows;
constexpr std::size_t most_pages = 40; // of memory

/// One layer of one head, so wide that 16 tokens fill a page of keys and one of values.
kv::model_shape shape_on(vtensor::bytes page) {
    const std::size_t width = page.count() / (page_rows * sizeof(vtensor::float16));
    return {1, {1, width, width, longest}};
}

/// What nobody else says.
text words(std::size_t count, int first) {
    text made(count);
    std::iota(made.begin(), made.end(), first);
    return made;
}
text joined(text first, const text& second) {
    first.insert(first.end(), second.begin(), second.end());
    return first;
}

/// The story says only what was seen.
void must(bool told) {
    if (!told)
        throw std::logic_error{"the manager does not do what the story tells"};
}

/// The stage: memory, the recorder, the manager, and the requests it serves.
class stage {
  public:
    stage()
        : pool_{traced_, {.limit = traced_.granularity() * most_pages}},
          manager_{manager_type::try_create(pool_, shape_on(pool_.chunk_size()), options()).value()} {}

    void say(std::string title, std::string what) { notes_.say(std::move(title), std::move(what)); }

    /// A request that runs from now on, and how many of its tokens were matched.
    [[nodiscard]] kv::placed_sequence create(const char* name, const text& prompt, int priority = 0) {
        const auto placed = manager_->try_create(prompt, {.priority = priority}).value();
        requests_.push_back({placed.id, name});
        label(placed.id, name);
        show();
        return placed;
    }
    [[nodiscard]] sequence_id fork(const char* name, sequence_id of) {
        const sequence_id made = manager_->try_fork(of).value();
        requests_.push_back({made, name});
        label(made, name);
        show();
        return made;
    }
    /// A token for each of them, `count` times, as a model writes.
    void write(std::span<const sequence_id> batch, std::size_t count) {
        for (std::size_t step = 0; step < count; ++step) {
            const text sampled = words(batch.size(), next_);
            next_ += static_cast<kv::token_id>(batch.size());
            std::vector<kv::extension> step_batch;
            for (std::size_t index = 0; index < batch.size(); ++index)
                step_batch.push_back({batch[index], std::span{sampled}.subspan(index, 1)});
            vtensor::throw_if_failed(manager_->try_extend(step_batch));
            show();
        }
    }
    void record(sequence_id id) {
        vtensor::throw_if_failed(manager_->try_record(id));
        show();
    }
    /// The cache of who is gone keeps the name, in brackets, until somebody else takes it.
    void release(sequence_id id) {
        const auto gone = std::ranges::find(requests_, id, &request::id);
        label(id, "(" + gone->name + ")");
        requests_.erase(gone);
        vtensor::throw_if_failed(manager_->try_release(id));
        show();
    }
    [[nodiscard]] kv::placed_sequence resume(sequence_id id) {
        const auto placed = manager_->try_resume(id).value();
        label(id, std::ranges::find(requests_, id, &request::id)->name);
        show();
        return placed;
    }
    [[nodiscard]] text tokens(sequence_id id) const {
        const auto all = manager_->tokens(id);
        return {all.begin(), all.end()};
    }
    [[nodiscard]] const manager_type& manager() const noexcept { return *manager_; }

    [[nodiscard]] told_story end() const {
        if (notes_.dropped() > 0)
            throw std::bad_alloc{};
        const auto figures = manager_->stats();
        return {notes_.entries(), pool_.stats(), figures.reserved, figures.mapped};
    }

  private:
    struct request {
        sequence_id id;
        std::string name;
    };

    static manager_type::options_type options() {
        manager_type::options_type made;
        made.cache.tokens_a_growth = 0; // a page when it is needed
        return made;
    }

    void label(sequence_id id, const std::string& name) {
        kv::kv_cache<layer>& cache = *manager_->cache(id);
        notes_.name(vtensor::address{cache.keys(0, 0).data}, name + ": keys");
        notes_.name(vtensor::address{cache.values(0, 0).data}, name + ": values");
    }
    /// Draws how far the pages of those that run are filled.
    void show() {
        for (const request& one : requests_) {
            kv::kv_cache<layer>* const cache = manager_->cache(one.id);
            if (cache == nullptr)
                continue; // preempted
            std::vector<std::size_t> live;
            for (std::size_t row = 0; row < cache->tokens(); row += page_rows)
                live.push_back(std::min(page_rows, cache->tokens() - row));
            notes_.rows({vtensor::address{cache->keys(0, 0).data}, page_rows, live});
            notes_.rows({vtensor::address{cache->values(0, 0).data}, page_rows, live});
        }
    }

    vtensor::host_backend host_{};
    recorder notes_;
    memory traced_{host_, notes_};
    pool_type pool_;
    std::unique_ptr<manager_type> manager_;
    std::vector<request> requests_;
    kv::token_id next_ = 100'000; ///< that a model "samples"
};

} // namespace

told_story tell_manager_story() {
    stage at;
    const text system = words(70, 1);

    at.say(
        "Request A arrives: a system prompt of 70 tokens and a question",
        "The manager gives it addresses for 160 tokens of keys and as many of values, and memory for the 82 "
        "that it has: six pages each. At most 40 pages may exist, for everybody.");
    const auto a = at.create("A", joined(system, words(12, 1000)));
    must(a.matched == 0);

    at.say("A's prompt was computed: it is recorded", "The manager remembers who has the rows of these "
                                                      "tokens. That takes no call of the backend.");
    at.record(a.id);

    at.say("A writes its answer, a token a step",
           "16 tokens fit into a page of keys, so only every 16th step needs memory at all.");
    at.write(std::vector{a.id}, 30);

    at.say("Request B begins with the same system prompt",
           "70 of its tokens are found: four pages are mapped a second time, read-only in both, and the six "
           "tokens on the fifth are copied. The model computes only what is behind them.");
    const auto b = at.create("B", joined(system, words(10, 2000)));
    must(b.matched == 70);

    at.say("A and B write, both in one call a step",
           "A batch gets memory for all its sequences or for none, so no step is done by half.");
    at.write(std::vector{a.id, b.id}, 16);

    at.say("C is a second answer to B's question",
           "A fork: whatever B has filled is mapped a second time, and its last page is copied, because both "
           "will write on it.");
    const sequence_id c = at.fork("C", b.id);
    at.write(std::vector{a.id, b.id, c}, 8);

    at.say("A is over: its pages stay mapped",
           "All of A's tokens are recorded, and the next message of that conversation may come soon. As long "
           "as nobody else needs the memory, leaving everything as it is costs nothing.");
    at.record(a.id);
    const text said = at.tokens(a.id);
    at.release(a.id);

    at.say("Request D is A's conversation and one more message",
           "The manager finds all that was said and takes the cache as it is, without a call. Those that "
           "follow are "
           "for the page that is written next.");
    const auto d = at.create("D", joined(said, words(6, 3000)));
    must(d.matched == said.size());
    at.write(std::vector{b.id, c, d.id}, 4);

    at.say("B is recorded and over; C is over",
           "B's pages stay for whoever asks the same. C was not recorded, and part of its pages is B's: it "
           "gives all of them up.");
    at.record(b.id);
    at.release(b.id);
    at.release(c);
    must(at.manager().stats().recorded > vtensor::bytes{0});

    at.say(
        "Request E is long and begins like nobody: memory is short",
        "Nine pages of keys and nine of values are needed, and there are fewer before the limit of 40. What "
        "nobody runs on goes first: B's rows are forgotten. D does not notice.");
    const auto e = at.create("E", words(140, 4000));
    must(at.manager().preempted().empty() && at.manager().stats().recorded == vtensor::bytes{0});

    at.say(
        "Request F is more important: E is preempted",
        "Now only running requests have memory. The youngest of the least important gives its pages up and "
        "keeps its tokens. F finds the system prompt in D's pages.");
    const auto f = at.create("F", joined(system, words(60, 5000)), 1);
    must(f.matched == 70 && std::ranges::equal(at.manager().preempted(), std::vector{e.id}));
    at.write(std::vector{d.id, f.id}, 4);

    at.say("F is over, and E is resumed",
           "E gets pages for all its tokens again. Their rows are computed a second time, which is what the "
           "policy of this manager chose; another one keeps them in the host's memory.");
    at.release(f.id);
    must(at.resume(e.id).matched == 0);
    at.write(std::vector{d.id, e.id}, 4);

    at.say("The end: D and E go on",
           "Each has one unbroken range of keys and one of values, and memory only behind its tokens.");
    return at.end();
}

} // namespace memory_map
