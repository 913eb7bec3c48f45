// SPDX-License-Identifier: Apache-2.0
//
// One tensor of the model-based test beside its model: a std::vector of elements, and which rows were
// written. Each operation is predicted from the model before it is done, and compared after.
#pragma once

#include "model_world.hpp"

#include <vtensor/virtual_tensor.hpp>

#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace vtensor::testing {

/// A tensor under test, whatever its type.
class subject {
  public:
    subject() = default;
    subject(const subject&) = delete;
    subject& operator=(const subject&) = delete;
    virtual ~subject() = default;

    /// One random operation, with everything checked that it touched.
    virtual void step() = 0;
    /// Compares every written row.
    virtual void check_whole() = 0;
    [[nodiscard]] virtual bytes mapped_bytes() const = 0;
    [[nodiscard]] virtual const model_pool& pool() const = 0;
};

template <element T, growth_policy Growth>
class subject_of final : public subject {
    using tensor_type = virtual_tensor<T, failing_host, Growth, eviction::keep_all, std::mutex>;
    static constexpr bool looks_ahead = look_ahead_policy<Growth>;

  public:
    /// At most `most_pages` pages.
    subject_of(std::string name, model_world& world, model_pool& pool, row_shape shape,
               std::size_t most_pages)
        : name_{std::move(name)},
          world_{&world},
          pool_{&pool},
          shape_{shape},
          row_{shape.size()},
          most_rows_{most_pages * pool.chunk_size().count() / (row_ * sizeof(T))} {
        recreate();
    }

    void step() override {
        switch (world_->random.below(32)) {
        case 0:
            recreate();
            break;
        case 1:
            move();
            break;
        case 2:
        case 3:
            trim();
            break;
        case 4:
        case 5:
            prepare();
            break;
        case 6:
        case 7:
        case 8:
        case 9:
        case 10:
        case 11:
            resize();
            break;
        case 12:
        case 13:
        case 14:
        case 15:
        case 16:
        case 17:
        case 18:
        case 19:
            append();
            break;
        case 20:
        case 21:
        case 22:
        case 23:
        case 24:
        case 25:
            write_some();
            break;
        default:
            for (int row = 0; row < 8; ++row)
                check_row(random_row());
        }
        check_state();
    }

    void check_whole() override {
        for (std::size_t row = 0; row < rows(); ++row)
            check_row(row);
    }
    [[nodiscard]] bytes mapped_bytes() const override { return held_->mapped_bytes(); }
    [[nodiscard]] const model_pool& pool() const override { return *pool_; }

  private:
    // ---- operations ----

    void recreate() {
        const std::size_t max_rows = 1 + world_->random.below(most_rows_);
        const owner_id owner{1 + world_->random.below(3)};
        const bool by_assignment = held_ && world_->random.one_in(2);
        world_->maybe_arm(*pool_, 1); // a destructor tries twice
        if (!by_assignment)
            held_.reset();
        auto made = create(max_rows, owner);
        if (by_assignment && made)
            *held_ = *std::move(made);
        const bool failed = world_->disarm(*pool_);
        if (!made) {
            expect(failed, "creation was refused without a reason");
            if (by_assignment)
                return; // nothing happened
            made = create(max_rows, owner);
            expect(made.ok(), "creation does not work after a failure");
        }
        if (!by_assignment)
            held_.emplace(*std::move(made));
        owner_ = owner;
        max_rows_ = max_rows;
        start_ = held_->data();
        model_.clear();
        written_.clear();
        expect(held_->max_rows() == max_rows && held_->mapped_bytes() == bytes{0},
               "a new tensor is not empty");
    }

    [[nodiscard]] result<tensor_type> create(std::size_t max_rows, owner_id owner) {
        if constexpr (looks_ahead)
            return tensor_type::try_create(*pool_, world_->thread, shape_, max_rows, {}, {owner});
        else
            return tensor_type::try_create(*pool_, shape_, max_rows, {}, {owner});
    }

    void move() {
        tensor_type away{std::move(*held_)};
        expect(held_->rows() == 0 && held_->data() == nullptr, "a moved-from tensor is not empty");
        if (world_->random.one_in(2))
            *held_ = std::move(away);
        else
            held_.emplace(std::move(away));
    }

    void resize() {
        const std::size_t wanted = random_length();
        const errc expected = prediction(wanted);
        world_->maybe_arm(*pool_);
        const status outcome = held_->try_resize(wanted);
        judge(outcome, expected, wanted > rows());
        if (outcome)
            set_rows(wanted);
    }

    void append() {
        const std::size_t count = world_->random.below(3 * rows_a_page() / 2 + 2);
        const std::size_t first = rows();
        const errc expected = prediction(first + count);
        world_->maybe_arm(*pool_);
        const auto fresh = held_->try_append(count);
        judge(fresh.status(), expected, true);
        if (!fresh)
            return;
        expect(fresh->extents[0] == count && fresh->extents[1] == row_, "append returned another shape");
        expect(fresh->data == start_ + first * row_, "append returned another place");
        set_rows(first + count);
        for (std::size_t row = first; row < first + count; ++row)
            write_row(row);
    }

    void prepare() {
        const std::size_t wanted = random_length();
        const errc expected = prediction(wanted);
        world_->maybe_arm(*pool_);
        const status outcome = held_->try_prepare(wanted);
        judge(outcome, expected, true);
        if (outcome && wanted <= max_rows_)
            expect(held_->mapped_rows() >= wanted, "prepared rows are not mapped");
    }

    void trim() {
        world_->maybe_arm(*pool_);
        const status outcome = held_->try_trim();
        judge(outcome, errc::ok, false);
        if (outcome)
            expect(held_->mapped_bytes() == pages_of(rows()) * pool_->chunk_size(), "trim left pages");
    }

    void write_some() {
        if (rows() == 0)
            return;
        const std::size_t first = random_row();
        const std::size_t last = std::min(rows(), first + 1 + world_->random.below(8));
        for (std::size_t row = first; row < last; ++row)
            write_row(row);
    }

    // ---- the model ----

    [[nodiscard]] std::size_t rows() const { return written_.size(); }
    [[nodiscard]] std::size_t rows_a_page() const { return pool_->chunk_size().count() / (row_ * sizeof(T)); }
    [[nodiscard]] page_count pages_of(std::size_t rows) const {
        return pages_for(bytes{rows * row_ * sizeof(T)}, pool_->chunk_size());
    }
    [[nodiscard]] std::size_t random_row() { return world_->random.below(rows()); }
    /// Mostly near the present length, sometimes anywhere, rarely too long.
    [[nodiscard]] std::size_t random_length() {
        dice& random = world_->random;
        if (random.one_in(4))
            return random.below(max_rows_ + 3);
        const std::size_t near = rows() + random.below(2 * rows_a_page() + 1);
        return std::min(near > rows_a_page() ? near - rows_a_page() : 0, max_rows_);
    }
    /// What growing to `wanted` rows must answer where nothing is made to fail.
    [[nodiscard]] errc prediction(std::size_t wanted) const {
        if (wanted > max_rows_)
            return errc::limit_exceeded;
        const page_count needed = pages_of(wanted);
        const page_count mapped{held_->mapped_bytes() / pool_->chunk_size()};
        return needed <= mapped ? errc::ok : world_->refusal_of(*pool_, (needed - mapped).count());
    }
    /// Compares what happened with what had to happen.
    void judge(const status& outcome, errc expected, bool takes_memory) {
        const bool failed = world_->disarm(*pool_);
        if (outcome.ok() ? expected == errc::ok : outcome.code() == expected) {
            world_->refused += outcome ? 0u : 1u;
            return;
        }
        if (!failed) {
            const bool another_thread = !world_->is_predictable(*pool_) && takes_memory;
            const bool shortage = outcome.ok() || outcome.code() == errc::limit_exceeded ||
                                  outcome.code() == errc::out_of_memory;
            expect(another_thread && shortage, "an operation was refused, or not, against the prediction");
        }
        check_whole();
    }
    void set_rows(std::size_t count) {
        const std::size_t before = rows();
        model_.resize(count * row_);
        written_.resize(count, 0);
        if (pool_ == &world_->scrubbed)
            for (std::size_t row = before; row < count; ++row)
                check_owner(row);
    }
    void write_row(std::size_t row) {
        T* const at = model_.data() + row * row_;
        for (std::size_t column = 0; column < row_; ++column)
            at[column] = value();
        std::memcpy(held_->data() + row * row_, at, row_ * sizeof(T));
        written_[row] = 1;
    }
    /// Any bits; where owners are kept apart, the owner's number in the upper byte.
    [[nodiscard]] T value() {
        counter_ = counter_ * 6364136223846793005u + 1442695040888963407u;
        if constexpr (std::is_same_v<T, std::uint32_t>) {
            return static_cast<T>(static_cast<std::uint64_t>(owner_) << 24 | (counter_ >> 40 & 0xFFFFFFu));
        } else {
            T any;
            std::array<std::uint64_t, (sizeof(T) + 7) / 8> bits;
            bits.fill(counter_ ^ (counter_ >> 29));
            std::memcpy(static_cast<void*>(&any), bits.data(), sizeof(T));
            return any;
        }
    }

    // ---- what must hold ----

    void expect(bool holds, const char* what) const { world_->expect(holds, what, name_.c_str()); }

    void check_row(std::size_t row) const {
        if (row >= rows() || written_[row] == 0)
            return;
        const bool same =
            std::memcmp(held_->data() + row * row_, model_.data() + row * row_, row_ * sizeof(T)) == 0;
        expect(same, "a row lost its content");
    }
    /// A new row holds nothing of another owner.
    void check_owner(std::size_t row) const {
        if constexpr (std::is_same_v<T, std::uint32_t>) {
            for (std::size_t column = 0; column < row_; ++column) {
                const std::uint32_t found = held_->data()[row * row_ + column];
                expect(found == 0 || owner_id{found >> 24} == owner_, "a new row shows another owner's data");
            }
        }
    }
    void check_state() {
        expect(held_->rows() == rows(), "the number of rows differs");
        expect(held_->data() == start_, "row 0 moved");
        expect(held_->max_rows() == max_rows_, "the longest length changed");
        expect(held_->mapped_rows() >= rows(), "rows without memory");
        expect(held_->verify(), "the tensor's book-keeping is wrong");
        expect(pool_->verify(), "the pool's book-keeping is wrong");
        for (int row = 0; row < 3; ++row)
            check_row(random_row());
    }

    const std::string name_;
    model_world* world_;
    model_pool* pool_;
    const row_shape shape_;
    const std::size_t row_; ///< elements
    const std::size_t most_rows_;

    std::optional<tensor_type> held_;
    std::vector<T> model_;
    std::vector<char> written_;
    owner_id owner_{};
    std::size_t max_rows_ = 0;
    const T* start_ = nullptr;
    std::uint64_t counter_ = 1;
};

} // namespace vtensor::testing
