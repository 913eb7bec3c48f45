// SPDX-License-Identifier: Apache-2.0
#include "story.hpp"

#include <vtensor/adaptors/tracing.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/policy/defrag.hpp>
#include <vtensor/policy/eviction/by_caller.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <initializer_list>
#include <new>
#include <string>
#include <utility>
#include <vector>

namespace memory_map {

namespace {

using vtensor::slot_type;

using memory = vtensor::adaptors::tracing<vtensor::host_backend, recorder>;
using pool_type = vtensor::chunk_pool<memory>;
using tensor =
    vtensor::virtual_tensor<vtensor::float16, memory, vtensor::growth::exact, vtensor::eviction::by_caller>;

constexpr std::size_t page_rows = 16; // tokens that fill a page
constexpr std::size_t longest = 24 * page_rows;
constexpr std::size_t prompt = 5 * page_rows; // of the system prompt

/// A token of 8 heads, so wide that 16 fill a page: 16 numbers a head, 256 B, where a page has 4 KiB.
vtensor::row_shape token_on(vtensor::bytes page) {
    return {8, page.count() / (page_rows * 8 * sizeof(vtensor::float16))};
}

/// The stage: memory, the recorder, and the conversations that are there.
class stage {
  public:
    stage() : pool_{traced_} {}

    void say(std::string title, std::string text) { notes_.say(std::move(title), std::move(text)); }

    [[nodiscard]] tensor begin(const char* name) {
        tensor made{pool_, token_on(pool_.chunk_size()), longest};
        call(made, name);
        return made;
    }
    void call(const tensor& conversation, const char* name) {
        notes_.name(vtensor::address{conversation.data()}, name);
    }

    void grow(tensor& conversation, std::size_t tokens) {
        conversation.append(tokens);
        show(conversation);
    }
    /// Token by token, as a model writes.
    void write(tensor& conversation, std::size_t tokens) {
        for (std::size_t count = 0; count < tokens; ++count)
            grow(conversation, 1);
    }

    /// Draws how far the pages are filled.
    void show(const tensor& conversation) {
        live_rows state{vtensor::address{conversation.data()}, page_rows, {}};
        const auto positions = conversation.positions();
        for (std::size_t row = 0; row < conversation.rows(); ++row) {
            if (row % page_rows == 0)
                state.live.push_back(0);
            state.live.back() += positions.empty() || positions[row] != vtensor::no_position;
        }
        notes_.rows(std::move(state));
    }

    [[nodiscard]] told_story end(std::initializer_list<const tensor*> left) const {
        if (notes_.dropped() > 0)
            throw std::bad_alloc{};
        told_story told{notes_.entries(), pool_.stats(), {}, {}};
        for (const tensor* each : left) {
            told.reserved += each->reserved_bytes();
            told.mapped += each->mapped_bytes();
        }
        return told;
    }

    [[nodiscard]] pool_type& pool() noexcept { return pool_; }

  private:
    vtensor::host_backend host_{};
    recorder notes_;
    memory traced_{host_, notes_};
    pool_type pool_;
};

} // namespace

told_story tell_story() {
    stage at;

    at.say("Conversation A is created",
           "It gets addresses for 384 tokens, the most that it may ever hold: 24 pages. No memory "
           "lies behind them yet.");
    tensor a = at.begin("A");

    at.say("A reads the system prompt: 80 tokens",
           "The instructions that every conversation begins with fill five pages. The pool creates "
           "five chunks, maps one behind each page, and makes the five pages accessible by a "
           "single call.");
    at.grow(a, prompt);

    at.say("A reads a question and writes its answer, token by token",
           "16 tokens fit into a page, so only every 16th token needs calls at all. The dark bar "
           "at the foot of a page shows how much of it tokens use.");
    at.grow(a, 12);
    at.write(a, 64);

    at.say("Conversation B begins with the same system prompt",
           "B maps the five pages that A already holds. They are read-only from now on, in both "
           "conversations, so that neither spoils them for the other. No memory is taken: look at "
           "the curve of physical memory.");
    tensor b = at.begin("B");
    b.share_prefix_of(a, prompt);
    at.show(b);

    at.say("B reads a question of its own and answers",
           "What differs gets chunks of its own. To the program B is one unbroken row, too: it "
           "cannot see where the shared pages end.");
    at.grow(b, 20);
    at.write(b, 38);

    at.say("Conversation C takes A's first 90 tokens",
           "The system prompt and the beginning of A's question. Five whole pages are mapped a "
           "third time. The last ten tokens fill only a part of a page: they are copied into a "
           "page of C's own.");
    tensor c = at.begin("C");
    c.share_prefix_of(a, prompt + 10);
    at.show(c);
    at.grow(c, 32);

    at.say("C writes on a page that it shares: copy-on-write",
           "C rewrites some tokens of the system prompt. Before it may, the page is copied: a "
           "fresh chunk is mapped at a spare address, filled there, and then put in the place of "
           "the shared one. A and B keep what they had.");
    c.make_writable(2 * page_rows, 4);
    at.show(c);

    at.say("A has got long: its old tokens are evicted",
           "Of A's 156 tokens the first 16 and the last 60 stay. The others are dead, the bars "
           "sink, and nothing else happens: that takes no call.");
    std::vector<slot_type> kept;
    for (slot_type slot = 0; slot < a.rows(); ++slot) {
        if (slot < page_rows || slot + 60 >= a.rows())
            kept.push_back(slot);
    }
    a.evict(kept);
    at.show(a);

    at.say("A is defragmented: its pages move together, and no byte is copied",
           "Pages without a living token leave, those behind them are mapped anew at earlier "
           "addresses. The chunks of the system prompt stay where they are, because B and C still "
           "read them. The one that only A used is free.");
    a.defragment(vtensor::defrag::remap{});
    at.show(a);

    at.say("A writes on", "The free chunk is used again before a new one is created.");
    at.write(a, 30);

    at.say("Conversation C ends",
           "Its pages are unmapped and its addresses given back. Chunks that only C held are free "
           "for others, the shared ones stay for A and B. They stay read-only until somebody wants "
           "to write on them.");
    { const tensor gone = std::move(c); }

    at.say("Conversation B ends, but its pages stay: they are held lazily",
           "Perhaps somebody wants the same beginning soon. As long as no one else needs the "
           "memory, leaving everything mapped costs nothing.");
    at.call(b, "B (ended)");

    at.say("Conversation D carries on where B ended: it adopts B's pages",
           "D asks about B's answer, so all of B's tokens are its beginning. It takes the "
           "addresses over as they are.");
    tensor d = std::move(b);
    at.call(d, "D (was B)");

    at.say("D grows", "From here on D is a conversation like any other.");
    at.write(d, 40);

    at.say("The pool gives back what nobody uses",
           "Free chunks were kept so that the next growth need not create any. Now they are "
           "destroyed, and the memory goes back to the system.");
    vtensor::throw_if_failed(at.pool().trim());

    at.say("The end: A and D go on",
           "Each sees one unbroken row of addresses. Behind both lies the same first page of the "
           "system prompt, once.");
    return at.end({&a, &d});
}

} // namespace memory_map
