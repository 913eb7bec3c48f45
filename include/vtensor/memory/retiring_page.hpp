// SPDX-License-Identifier: Apache-2.0
//
// What a retire queue is made of: pages, the tickets they wait for, the lanes in which tickets fall due, and
// the addresses the pages lie at. Plain data that retire_book.hpp alone changes.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/memory/pooled_chunk.hpp>
#include <vtensor/memory/reservation.hpp>

#include <boost/intrusive/list.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace vtensor::detail {

struct by_addresses;
struct by_ticket;

enum class retiring_stage : std::uint8_t {
    retiring, ///< given up; unmapped once its ticket is due
    claimed,  ///< a growth that is under way wants it back
    revived,  ///< its range's again, though the work behind its ticket may still read it
};

template <stream_ordered_backend Backend>
struct retire_ticket;
template <stream_ordered_backend Backend>
struct retire_lane;
template <stream_ordered_backend Backend>
struct retiring_addresses;

/// One page that queued work may still read. In the list of its addresses, and in that of its ticket or of
/// what is due.
template <stream_ordered_backend Backend>
struct retiring_page : boost::intrusive::list_base_hook<boost::intrusive::tag<by_addresses>>,
                       boost::intrusive::list_base_hook<boost::intrusive::tag<by_ticket>> {
    page_index index;
    pooled_chunk<Backend> chunk;
    retiring_addresses<Backend>* range = nullptr;
    retire_ticket<Backend>* ticket = nullptr; ///< null: there is nothing to wait for any more
    retiring_stage stage = retiring_stage::retiring;
    bool accessible = false; ///< false for what a failed growth left behind
    bool read_only = false;  ///< its chunk was shared: it is not taken back for a growth
};

template <stream_ordered_backend Backend, class Order>
using retiring_list = boost::intrusive::list<
    retiring_page<Backend>,
    boost::intrusive::base_hook<boost::intrusive::list_base_hook<boost::intrusive::tag<Order>>>>;

/// An event, recorded behind the work that may read the pages.
template <stream_ordered_backend Backend>
struct retire_ticket : boost::intrusive::list_base_hook<> {
    explicit retire_ticket(const typename Backend::event_type& recorded) noexcept : event{recorded} {}

    typename Backend::event_type event;
    retiring_list<Backend, by_ticket> pages;
    std::size_t retiring = 0;             ///< pages of that stage
    std::uint64_t number = 0;             ///< in the order of recording, from 1
    std::size_t waiters = 0;              ///< threads that wait for the event, without the lock
    retire_lane<Backend>* lane = nullptr; ///< null: it is not in use
};

/// The tickets of one stream, oldest first: where one is not due, those behind it need not be asked.
template <stream_ordered_backend Backend>
struct retire_lane : boost::intrusive::list_base_hook<> {
    using stream_type = typename Backend::stream_type;

    explicit retire_lane(const stream_type& of) noexcept : stream{of} {}

    stream_type stream;
    boost::intrusive::list<retire_ticket<Backend>> tickets;
};

/// The addresses of one range, with those of its pages that queued work may still read, in page order. It
/// outlives the range while there are any.
template <stream_ordered_backend Backend>
struct retiring_addresses {
    retiring_addresses(address first, bytes page) noexcept : start{first}, page_size{page} {}

    [[nodiscard]] address at(page_index index) const noexcept { return start + page_size * index.index(); }

    const address start;
    const bytes page_size;
    retiring_list<Backend, by_addresses> pages;
    std::size_t retiring = 0;         ///< pages of that stage
    bool abandoned = false;           ///< the range is gone
    reservation<Backend> left_behind; ///< by that range, to be released with the last page
};

/// What is not in use now, kept for the next time. Owns it.
template <class T, class List = boost::intrusive::list<T>>
class spares {
  public:
    spares() noexcept = default;
    spares(const spares&) = delete;
    spares& operator=(const spares&) = delete;
    ~spares() {
        list_.clear_and_dispose([](T* unused) { delete unused; });
    }

    [[nodiscard]] bool empty() const noexcept { return list_.empty(); }
    [[nodiscard]] std::size_t size() const noexcept { return list_.size(); }
    /// The one that `take` gives next.
    [[nodiscard]] T& next() noexcept { return list_.front(); }
    T& take() noexcept {
        T& taken = list_.front();
        list_.pop_front();
        return taken;
    }
    void keep(T& unused) noexcept { list_.push_front(unused); }
    /// Makes one more from `values`; false where there is no memory for it.
    template <class... Values>
    [[nodiscard]] bool add(const Values&... values) noexcept {
        T* const made = new (std::nothrow) T{values...};
        if (made != nullptr)
            list_.push_front(*made);
        return made != nullptr;
    }

  private:
    List list_;
};

} // namespace vtensor::detail
