// SPDX-License-Identifier: Apache-2.0
//
// The chunks of a pool that wait for reuse. Here alone a pool's chunks are created and given back to the
// backend. No lock and no limit: those are the pool's.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/memory/pooled_chunk.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>

namespace vtensor::detail {

template <backend Backend>
class free_chunks {
  public:
    using node = chunk_node<Backend>;
    using node_list = chunk_list<Backend>;

    free_chunks(Backend& backend, bytes chunk_size) noexcept : backend_{&backend}, chunk_size_{chunk_size} {}
    free_chunks(const free_chunks&) = delete;
    free_chunks& operator=(const free_chunks&) = delete;

    [[nodiscard]] std::size_t size() const noexcept { return list_.size(); }

    /// The one that was put here last; created ones come last of all.
    [[nodiscard]] node& take() noexcept {
        node& taken = list_.front();
        list_.pop_front();
        return taken;
    }
    void put(node& unused) noexcept { list_.push_front(unused); }

    /// Adds `count`, or none. What cannot even be given back after a failure is kept: counted, reusable, not
    /// lost.
    [[nodiscard]] status create(std::size_t count) noexcept {
        node_list fresh;
        status outcome;
        for (std::size_t index = 0; index < count && outcome; ++index)
            outcome = create_one(fresh);
        while (!outcome && !fresh.empty() && destroy(fresh, fresh.front(), 2)) {
        }
        list_.splice(list_.end(), fresh);
        return outcome;
    }

    /// Gives back the `count` that `take` would give next. Stops at the first that the backend does not take,
    /// and reports that as a failure of `where`.
    [[nodiscard]] status destroy(std::size_t count, verb where) noexcept {
        for (; count > 0; --count) {
            if (const status outcome = destroy(list_, list_.front(), 1); !outcome)
                return error{outcome.code(), where, outcome.error().native, chunk_size_};
        }
        return {};
    }
    /// Gives back up to `count`, those that were created last. Stops at one that the backend refuses twice.
    void discard(std::size_t count) noexcept {
        for (; count > 0 && !list_.empty() && destroy(list_, list_.back(), 2); --count) {
        }
    }

    /// Gives everything back, what is still used too. What the backend refuses twice is left to it.
    void close(node_list& used) noexcept {
        for (node_list* const list : {&list_, &used}) {
            list->clear_and_dispose([this](node* entry) {
                static_cast<void>(try_destroy(*entry, 2));
                delete entry;
            });
        }
    }

    /// Nobody refers to what is free. O(chunks).
    [[nodiscard]] bool verify() const noexcept {
        return std::all_of(list_.begin(), list_.end(),
                           [](const node& entry) { return entry.references == 0; });
    }

  private:
    status create_one(node_list& fresh) noexcept {
        std::unique_ptr<node> entry{new (std::nothrow) node};
        if (entry == nullptr)
            return error{errc::out_of_memory, verb::acquire, 0, bytes{sizeof(node)}};
        const auto handle = backend_->create(chunk_size_);
        if (!handle)
            return handle.error();
        entry->handle = *handle;
        fresh.push_back(*entry.release());
        return {};
    }

    /// Asks the backend up to `tries` times to take a chunk back.
    status try_destroy(const node& entry, int tries) noexcept {
        status outcome = backend_->destroy(entry.handle);
        while (!outcome && --tries > 0)
            outcome = backend_->destroy(entry.handle);
        return outcome;
    }

    /// Destroys a chunk of a list; where the backend refuses every time it stays there.
    status destroy(node_list& list, node& entry, int tries) noexcept {
        const status outcome = try_destroy(entry, tries);
        if (outcome)
            list.erase_and_dispose(list.iterator_to(entry), [](node* gone) { delete gone; });
        return outcome;
    }

    Backend* backend_;
    bytes chunk_size_;
    node_list list_;
};

} // namespace vtensor::detail
