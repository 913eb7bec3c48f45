// SPDX-License-Identifier: Apache-2.0
//
// One tensor of the random test beside its model: what its rows hold, and which kernels may still read which
// of its pages. It names the streams that a careful engine would name, and no others.
#pragma once

#include "model_world.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace vtensor::testing {

class subject {
  public:
    subject() = default;
    subject(const subject&) = delete;
    subject& operator=(const subject&) = delete;
    virtual ~subject() = default;

    virtual void step() = 0;
    virtual void check_whole() = 0;
    [[nodiscard]] virtual bytes mapped_bytes() const = 0;
    [[nodiscard]] virtual const retire_pool& pool() const = 0;
};

template <growth_policy Growth>
class subject_of final : public subject {
    using tensor_type = retire_tensor<Growth>;

  public:
    subject_of(std::string name, model_world& world, retire_pool& pool, std::size_t row)
        : name_{std::move(name)}, world_{&world}, pool_{&pool}, row_{row} {
        create();
    }

    void step() override {
        switch (world_->below(16)) {
        case 0:
            replace();
            break;
        case 1:
            trim();
            break;
        case 2:
            retire();
            break;
        case 3:
        case 4:
        case 5:
        case 6:
            resize(world_->below(max_rows_ + 2));
            break;
        case 7:
        case 8:
            resize(rows() + world_->below(4));
            break;
        case 9:
        case 10:
            write(world_->below(rows()), 1 + world_->below(6));
            break;
        default:
            read();
        }
        check();
    }
    void check_whole() override {
        for (std::size_t row = 0; row < rows(); ++row)
            check_row(row);
    }
    [[nodiscard]] bytes mapped_bytes() const override { return held_->mapped_bytes(); }
    [[nodiscard]] const retire_pool& pool() const override { return *pool_; }

  private:
    // ---- operations ----

    void create() {
        max_rows_ = 1 + world_->below(30 * page_words / row_);
        owner_ = static_cast<std::uint32_t>(1 + world_->below(3));
        for (;;) {
            world_->maybe_arm();
            auto made = tensor_type::try_create(*pool_, {row_}, max_rows_, {}, {owner_id{owner_}});
            const bool failed = world_->disarm();
            if (made) {
                held_.emplace(*std::move(made));
                break;
            }
            expect(failed, "creation was refused without a reason");
        }
        start_ = held_->data();
        rows_.clear();
        written_ = std::make_shared<std::vector<std::uint32_t>>(max_rows_);
        readers_.clear();
    }

    /// The tensor goes, what it retired or took back is still being read, and another one comes.
    void replace() {
        const bool names =
            world_->one_in(2) && give_up(0, [&](model_stream stream) { return held_->try_retire(stream); });
        if (!names)
            wait_for_readers(0);
        world_->maybe_arm(1); // a destructor tries twice
        held_.reset();
        static_cast<void>(world_->disarm());
        world_->expect(world_->device.violations().empty(), "destroyed under queued work", name_);
        create();
    }

    void trim() {
        if (world_->one_in(2)) {
            give_up(pages_of(rows()), [&](model_stream stream) { return held_->try_trim(stream); });
            return;
        }
        wait_for_readers(pages_of(rows()));
        world_->maybe_arm();
        const status outcome = held_->try_trim();
        judge(outcome, world_->disarm(), 0);
        if (outcome)
            expect(held_->mapped_bytes() == pages_of(rows()) * retire_page, "trim left pages");
    }

    void retire() {
        if (give_up(0, [&](model_stream stream) { return held_->try_retire(stream); })) {
            expect(held_->mapped_bytes() == bytes{0}, "retiring left pages");
            set_rows(0);
        }
    }

    void resize(std::size_t wanted) {
        if (wanted < rows() && world_->one_in(2)) {
            if (give_up(pages_of(wanted),
                        [&](model_stream stream) { return held_->try_resize(wanted, stream); }))
                set_rows(wanted);
            return;
        }
        if (wanted < rows())
            wait_for_readers(pages_of(wanted));
        const std::size_t before = held_->mapped_bytes() / retire_page;
        world_->maybe_arm();
        const status outcome = held_->try_resize(wanted);
        const bool failed = world_->disarm();
        if (wanted > max_rows_) {
            expect(outcome.code() == errc::limit_exceeded, "too many rows were accepted");
            return;
        }
        judge(outcome, failed, pages_of(wanted) > before ? pages_of(wanted) - before : 0);
        if (outcome)
            set_rows(wanted);
    }

    /// A kernel that reads some rows and knows what they must hold, if nobody wrote them since.
    void read() {
        if (rows() == 0)
            return;
        const std::size_t first = world_->below(rows());
        const std::size_t count = std::min(rows() - first, 1 + world_->below(8));
        const std::size_t stream = world_->any_stream();
        const address where{start_ + first * row_};
        const auto done = std::make_shared<bool>(false);
        const std::vector<std::uint32_t> expected(at(rows_, first), at(rows_, first + count));
        world_->device.launch(world_->names[stream], where, bytes{count * row_ * 4},
                              [=, world = world_, written = written_, row = row_] {
                                  ++world->reads;
                                  *done = true;
                                  for (std::size_t index = 0; index < count; ++index) {
                                      const std::uint32_t value = expected[index];
                                      if (value != 0 && (*written)[first + index] == value)
                                          world->wrong_reads +=
                                              wrong_words(where + bytes{index * row * 4}, row, value);
                                  }
                              });
        const std::size_t bytes_before = first * row_ * 4;
        readers_.push_back({bytes_before / retire_page.count(),
                            pages_for(bytes{(first + count) * row_ * 4}, retire_page).count(), stream, done});
    }

    void write(std::size_t first, std::size_t count) {
        for (std::size_t row = first; row < std::min(rows(), first + count); ++row) {
            const std::uint32_t value = owner_ << 24 | (++counter_ & 0xFFFFu) << 8;
            for (std::size_t column = 0; column < row_; ++column)
                start_[row * row_ + column] = value + static_cast<std::uint32_t>(column);
            rows_[row] = (*written_)[row] = value;
        }
    }

    // ---- what an engine has to keep in mind ----

    /// A kernel that no retirement has been told of, as far as the pages [first, last) are concerned.
    struct reader {
        std::size_t first;
        std::size_t last;
        std::size_t stream;
        std::shared_ptr<bool> done;
    };

    /// Gives pages from `kept` on up behind a stream that comes after all their readers.
    template <class Operate>
    bool give_up(std::size_t kept, Operate operate) {
        const std::size_t on = world_->any_stream();
        std::array<bool, model_world::streams> joined{};
        for (const reader& one : readers_) {
            if (one.last > kept && !*one.done && one.stream != on && !joined[one.stream]) {
                world_->join(on, one.stream);
                joined[one.stream] = true;
            }
        }
        world_->maybe_arm();
        const status outcome = operate(world_->names[on]);
        judge(outcome, world_->disarm(), 0);
        if (outcome)
            forget_readers();
        return outcome.ok();
    }
    /// Waits until nobody reads the pages from `kept` on that no retirement was told of.
    void wait_for_readers(std::size_t kept) {
        for (const reader& one : readers_) {
            while (one.last > kept && !*one.done) {
                if (!world_->device.step(world_->names[one.stream]))
                    world_->device.run_all();
            }
        }
        forget_readers();
    }
    /// Pages that are not mapped for the tensor any more are the library's to look after.
    void forget_readers() {
        const std::size_t mapped = held_->mapped_bytes() / retire_page;
        for (reader& one : readers_)
            one.last = std::min(one.last, mapped);
        std::erase_if(readers_, [](const reader& one) { return *one.done || one.first >= one.last; });
    }

    // ---- what must hold ----

    static std::size_t wrong_words(address row, std::size_t words, std::uint32_t value) {
        std::size_t wrong = 0;
        for (std::size_t word = 0; word < words; ++word)
            wrong += row.to_pointer<const std::uint32_t>()[word] != value + word ? 1u : 0u;
        return wrong;
    }
    static auto at(const std::vector<std::uint32_t>& values, std::size_t index) {
        return values.begin() + static_cast<std::ptrdiff_t>(index);
    }

    [[nodiscard]] std::size_t rows() const { return rows_.size(); }
    [[nodiscard]] std::size_t pages_of(std::size_t count) const {
        return pages_for(bytes{count * row_ * 4}, retire_page).count();
    }

    /// `extra` pages at most were to be mapped.
    void judge(const status& outcome, bool failed, std::size_t extra) {
        if (outcome)
            return;
        if (failed) {
            check_whole();
            return;
        }
        expect(is_shortage(outcome.code()) && extra > 0, "an operation was refused without a reason");
        ++world_->refused;
        const chunk_pool_stats stats = pool_->stats();
        expect(stats.in_use + extra * retire_page > stats.limit, "a growth was refused that fits");
        page_count reclaimed{};
        expect(pool_->retiring().reclaim(tensor_queue::every_page, reclaimed).ok() &&
                   reclaimed == page_count{},
               "a shortage was reported before all that is done was reclaimed");
        if (pool_->waits_for_retiring())
            expect(pool_->retiring().stats().retiring == 0,
                   "a shortage was reported before all was waited for");
    }

    void set_rows(std::size_t count) {
        const std::size_t before = rows();
        rows_.resize(count);
        if (pool_ != &world_->failing_pool) // the other pool keeps owners apart
            return;
        for (std::size_t word = before * row_; word < count * row_; ++word)
            expect(start_[word] == 0 || start_[word] >> 24 == owner_, "a new row shows another owner's data");
    }
    void check_row(std::size_t row) const {
        expect(rows_[row] == 0 || wrong_words(address{start_ + row * row_}, row_, rows_[row]) == 0,
               "a row lost its content");
    }
    void check() {
        expect(world_->device.violations().empty(), "memory was taken from under queued work");
        expect(world_->wrong_reads == 0, "a kernel read something else");
        expect(held_->rows() == rows(), "the number of rows differs");
        expect(held_->data() == start_, "row 0 moved");
        expect(held_->mapped_rows() >= rows(), "rows without memory");
        expect(held_->verify() && pool_->verify() && pool_->retiring().verify(), "the book-keeping is wrong");
        for (int row = 0; row < 3 && rows() > 0; ++row)
            check_row(world_->below(rows()));
    }
    void expect(bool holds, const char* what) const { world_->expect(holds, what, name_); }

    using tensor_queue = typename retire_pool::retire_queue_type;

    const std::string name_;
    model_world* world_;
    retire_pool* pool_;
    const std::size_t row_; ///< words, at most 256
    std::optional<tensor_type> held_;
    std::uint32_t* start_ = nullptr;
    std::size_t max_rows_ = 0;
    std::uint32_t owner_ = 0;
    std::uint32_t counter_ = 0;
    std::vector<std::uint32_t> rows_; ///< the first word of each; 0: not written
    /// By index what was last written there, in a row or in one that is gone by now.
    std::shared_ptr<std::vector<std::uint32_t>> written_;
    std::vector<reader> readers_;
};

} // namespace vtensor::testing
