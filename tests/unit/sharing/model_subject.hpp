// SPDX-License-Identifier: Apache-2.0
//
// Tensors that share pages beside their model: for each a plain copy of its bytes, and for each of its pages
// a number that stands for the memory behind it. What is in memory, how often it is referred to and what may
// be written is predicted from the numbers alone.
#pragma once

#include "support/catch.hpp"

#include <vtensor/adaptors/failing.hpp>
#include <vtensor/backends/host.hpp>
#include <vtensor/virtual_tensor.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace vtensor::testing {

using model_backend = adaptors::failing<host_backend>;
using model_pool = chunk_pool<model_backend>;
using model_tensor = virtual_tensor<std::uint8_t, model_backend>;

/// Random numbers, and where a broken expectation is reported.
struct model_run {
    std::uint64_t seed;
    std::mt19937_64 engine{seed};
    std::size_t operation = 0;
    std::size_t injected = 0; ///< operations that met a failure made by us

    [[nodiscard]] std::size_t below(std::size_t count) { return count == 0 ? 0 : engine() % count; }
    [[nodiscard]] bool one_in(std::size_t count) { return below(count) == 0; }
    void expect(bool holds, const char* what) const {
        if (!holds)
            FAIL(what << " (operation " << operation << ", VTENSOR_TEST_SEED=" << seed << ")");
    }
};

/// Memory as the model sees it: how many pages of tensors lie on each piece.
class model_memory {
  public:
    using piece = std::uint32_t;

    [[nodiscard]] piece create() {
        references_.push_back(1);
        ++in_use_;
        return static_cast<piece>(references_.size() - 1);
    }
    void retain(piece one) {
        ++references_[one];
        ++aliases_;
    }
    void release(piece one) {
        if (--references_[one] == 0)
            --in_use_;
        else
            --aliases_;
    }
    [[nodiscard]] bool is_shared(piece one) const { return references_[one] > 1; }
    [[nodiscard]] std::size_t in_use() const { return in_use_; }
    [[nodiscard]] std::size_t aliases() const { return aliases_; }

  private:
    std::vector<std::uint32_t> references_;
    std::size_t in_use_ = 0;
    std::size_t aliases_ = 0;
};

/// Some tensors on one pool, with rows of one size.
class sharing_subject {
  public:
    static constexpr std::size_t most_pages = 12;

    sharing_subject(model_run& run, bytes page, std::size_t row, std::size_t tensors)
        : run_{run}, page_{page.count()}, row_{row}, held_(tensors) {
        for (one& each : held_)
            each.tensor.emplace(pool_, row_shape{row_}, most_rows());
    }

    /// One random operation on random tensors, and what must hold after it.
    void step() {
        one& subject = held_[run_.below(held_.size())];
        const std::size_t action = run_.below(22);
        maybe_arm();
        if (action < 2)
            share(subject, other_than(subject));
        else if (action == 2)
            fork(subject, other_than(subject));
        else if (action < 9)
            append(subject, run_.below(3 * page_ / row_ / 2 + 2));
        else if (action < 12)
            write(subject, true);
        else if (action < 15)
            write(subject, false);
        else if (action < 17)
            truncate(subject, subject.rows() == 0 ? 0 : run_.below(subject.rows()));
        else if (action == 17)
            trim_or_prepare(subject);
        else if (action == 18)
            cut(subject, run_.below(subject.rows() + 1));
        else if (action == 19)
            release(subject);
        else
            merge(subject, other_than(subject));
        static_cast<void>(met_failure());
        check(subject);
    }

    /// Every byte of every tensor, and the book-keeping.
    void check_whole() {
        for (one& each : held_) {
            run_.expect(std::equal(each.model.begin(), each.model.end(), each.tensor->data()),
                        "a tensor lost its content");
            check(each);
        }
        run_.expect(pool_.verify(), "the pool's book-keeping is wrong");
        run_.expect(backend_free().mapped_bytes() == bytes{page_ * pages_mapped()},
                    "mapped bytes do not add up");
        run_.expect(backend_free().kernel_physical_bytes() == pool_.stats().created,
                    "the kernel counts otherwise");
    }
    /// The start of each tensor and how many pages it has mapped.
    [[nodiscard]] std::vector<std::pair<const void*, std::size_t>> places() const {
        std::vector<std::pair<const void*, std::size_t>> all;
        for (const one& each : held_)
            all.emplace_back(each.tensor->data(), each.pages.size());
        return all;
    }
    [[nodiscard]] std::size_t page() const { return page_; }
    [[nodiscard]] const model_memory& memory() const { return memory_; }
    [[nodiscard]] const host_backend& backend_free() const { return host_; }
    /// Every tensor and every chunk goes.
    void close() {
        held_.clear();
        run_.expect(pool_.stats().in_use == bytes{0}, "chunks are still in use");
        run_.expect(pool_.trim().ok() && host_.kernel_physical_bytes() == bytes{0}, "memory is left");
        run_.expect(host_.reserved_bytes() == bytes{0}, "addresses are left");
    }

  private:
    struct mapped_page {
        model_memory::piece memory;
        bool read_only;
    };
    struct one {
        std::optional<model_tensor> tensor;
        std::vector<std::uint8_t> model;
        std::vector<mapped_page> pages;

        [[nodiscard]] std::size_t rows() const { return tensor->rows(); }
    };

    [[nodiscard]] std::size_t most_rows() const { return most_pages * page_ / row_; }
    [[nodiscard]] std::size_t pages_of(std::size_t rows) const { return (rows * row_ + page_ - 1) / page_; }
    [[nodiscard]] std::size_t pages_mapped() const {
        std::size_t sum = 0;
        for (const one& each : held_)
            sum += each.pages.size();
        return sum;
    }
    one& other_than(const one& subject) {
        const std::size_t index = static_cast<std::size_t>(&subject - held_.data());
        return held_[(index + 1 + run_.below(held_.size() - 1)) % held_.size()];
    }
    /// Now and then makes one of the next calls fail.
    void maybe_arm() {
        if (run_.one_in(12))
            backend_.fail_calls(1 + run_.below(6), 1, errc::native_failure);
    }
    /// Whether a call was made to fail since the operation began.
    [[nodiscard]] bool met_failure() {
        const bool failed = backend_.failures() != 0;
        backend_.disarm();
        run_.injected += failed ? 1u : 0u;
        return failed;
    }
    /// Fails only where something was made to fail. True where the operation succeeded.
    [[nodiscard]] bool judged(bool succeeded) {
        const bool failed = met_failure();
        run_.expect(succeeded || failed, "an operation was refused without a reason");
        return succeeded;
    }

    // ---- operations ----

    void share(one& to, one& from) {
        if (run_.one_in(3)) {
            cut(to, 0); // with pages that no row occupies, shared ones among them
        } else {
            truncate(to, 0);
            trim(to);
        }
        const std::size_t rows = run_.below(from.rows() + 1);
        const std::size_t whole = rows * row_ / page_;
        const std::size_t allowed = run_.one_in(4) ? memory_.aliases() + run_.below(4) : 1u << 30;
        const sharing::within<> rule{allowed, {}};
        const std::size_t left = allowed - memory_.aliases();
        maybe_arm();
        const std::size_t mapped = std::min(whole, left);
        const bool gives_up =
            mapped > 0 || std::any_of(to.pages.begin(), to.pages.end(),
                                      [](const mapped_page& page) { return page.read_only; });
        const bool shared = judged(to.tensor->try_share_prefix_of(*from.tensor, rows, rule).ok());
        if ((shared && rows > 0 && gives_up) || to.tensor->mapped_bytes() == bytes{0})
            drop_pages(to, 0); // which a failure may have left
        if (shared)
            take(to, from, rows, mapped);
    }
    void fork(one& to, one& from) {
        auto made = from.tensor->try_fork();
        if (!judged(made.ok()))
            return;
        for (const mapped_page& gone : to.pages)
            memory_.release(gone.memory);
        to.pages.clear();
        *to.tensor = *std::move(made);
        take(to, from, from.rows(), from.rows() * row_ / page_);
    }
    /// `to` is empty in the model, and has the first rows of `from` now.
    void take(one& to, one& from, std::size_t rows, std::size_t shared) {
        to.model.assign(from.model.begin(), from.model.begin() + static_cast<std::ptrdiff_t>(rows * row_));
        for (std::size_t page = 0; page < shared; ++page) {
            from.pages[page].read_only = true;
            memory_.retain(from.pages[page].memory);
            to.pages.push_back(from.pages[page]);
        }
        while (to.pages.size() < pages_of(rows))
            to.pages.push_back({memory_.create(), false});
        check(from);
    }
    /// Also of rows that are not equal: then it is those of `from` that are seen.
    void merge(one& to, one& from) {
        const std::size_t rows = run_.below(std::min(to.rows(), from.rows()) + 1);
        if (!judged(to.tensor->try_merge_prefix_of(*from.tensor, rows).ok()))
            return;
        const std::size_t whole = rows * row_ / page_;
        for (std::size_t page = 0; page < whole; ++page) {
            if (to.pages[page].memory == from.pages[page].memory)
                continue;
            memory_.release(to.pages[page].memory);
            memory_.retain(from.pages[page].memory);
            from.pages[page].read_only = true;
            to.pages[page] = from.pages[page];
        }
        std::copy_n(from.model.begin(), whole * page_, to.model.begin());
        check(from);
    }
    void append(one& to, std::size_t count) {
        const std::size_t before = to.rows();
        const bool fits = before + count <= most_rows();
        const auto made = to.tensor->try_append(count);
        if (!fits) {
            run_.expect(made.code() == errc::limit_exceeded, "more rows than may be were added");
            return;
        }
        if (!judged(made.ok()))
            return;
        provide(to, before, before + count);
        to.model.resize((before + count) * row_);
        scribble(to, before, count);
    }
    /// The pages of rows that were added, or prepared.
    void provide(one& to, std::size_t before, std::size_t rows) {
        const std::size_t needed = pages_of(rows);
        if (rows > before)
            open(to, before * row_ / page_, std::min(needed, to.pages.size()));
        while (to.pages.size() < needed)
            to.pages.push_back({memory_.create(), false});
    }
    void open(one& to, std::size_t first, std::size_t last) {
        for (std::size_t page = first; page < last; ++page) {
            mapped_page& opened = to.pages[page];
            if (opened.read_only && memory_.is_shared(opened.memory)) {
                memory_.release(opened.memory);
                opened.memory = memory_.create();
            }
            opened.read_only = false;
        }
    }
    /// Some rows: after making them writable, or as they are where the model says that they may be written.
    void write(one& to, bool prepare) {
        if (to.rows() == 0)
            return;
        const std::size_t first = run_.below(to.rows());
        const std::size_t count = 1 + run_.below(std::min<std::size_t>(to.rows() - first, 12));
        const std::size_t first_page = first * row_ / page_;
        const std::size_t last_page = pages_of(first + count);
        if (prepare) {
            if (!judged(to.tensor->try_make_writable(first, count).ok()))
                return;
            open(to, first_page, last_page);
        }
        for (std::size_t page = first_page; page < last_page; ++page) {
            if (to.pages[page].read_only)
                return;
        }
        scribble(to, first, count);
    }
    void scribble(one& to, std::size_t first, std::size_t count) {
        if (count == 0)
            return;
        std::uint64_t bits = run_.engine();
        for (std::size_t row = first; row < first + count; ++row) {
            std::uint8_t* const at = to.model.data() + row * row_;
            for (std::size_t offset = 0; offset < row_; offset += 8) {
                bits = bits * 6364136223846793005u + 1442695040888963407u;
                std::memcpy(at + offset, &bits, std::min<std::size_t>(8, row_ - offset));
            }
        }
        std::memcpy(to.tensor->data() + first * row_, to.model.data() + first * row_, count * row_);
    }
    void truncate(one& from, std::size_t rows) {
        if (rows >= from.rows())
            return;
        from.tensor->truncate(rows);
        static_cast<void>(met_failure()); // tried twice
        from.model.resize(rows * row_);
        drop_pages(from, pages_of(rows));
    }
    void cut(one& from, std::size_t rows) {
        from.tensor->cut(rows);
        from.model.resize(rows * row_);
    }
    void trim(one& from) {
        if (judged(from.tensor->try_trim().ok()))
            drop_pages(from, pages_of(from.rows()));
        else if (from.tensor->try_trim())
            drop_pages(from, pages_of(from.rows()));
    }
    void trim_or_prepare(one& subject) {
        if (run_.one_in(2))
            return trim(subject);
        const std::size_t rows = std::min(most_rows(), subject.rows() + run_.below(2 * page_ / row_ + 2));
        if (judged(subject.tensor->try_prepare(rows).ok()))
            provide(subject, subject.rows(), rows);
    }
    void release(one& subject) {
        subject.tensor.reset(); // tries twice
        static_cast<void>(met_failure());
        drop_pages(subject, 0);
        subject.model.clear();
        subject.tensor.emplace(pool_, row_shape{row_}, most_rows());
    }
    void drop_pages(one& from, std::size_t kept) {
        while (from.pages.size() > kept) {
            memory_.release(from.pages.back().memory);
            from.pages.pop_back();
        }
    }

    // ---- what must hold ----

    void check(const one& subject) {
        const model_tensor& tensor = *subject.tensor;
        run_.expect(tensor.rows() * row_ == subject.model.size(), "the number of rows differs");
        run_.expect(tensor.mapped_bytes() == bytes{page_ * subject.pages.size()}, "other pages are mapped");
        const auto shared =
            std::count_if(subject.pages.begin(), subject.pages.end(),
                          [this](const mapped_page& page) { return memory_.is_shared(page.memory); });
        run_.expect(tensor.shared_bytes() == bytes{page_ * static_cast<std::size_t>(shared)},
                    "other pages are shared");
        run_.expect(tensor.verify(), "the tensor's book-keeping is wrong");
        const chunk_pool_stats stats = pool_.stats();
        run_.expect(stats.in_use == bytes{page_ * memory_.in_use()}, "other chunks are in use");
        run_.expect(stats.aliases == memory_.aliases(), "references are missing, or too many");
        for (int sample = 0; sample < 3 && tensor.rows() > 0; ++sample) {
            const std::size_t row = run_.below(tensor.rows());
            run_.expect(std::memcmp(tensor.data() + row * row_, subject.model.data() + row * row_, row_) == 0,
                        "a row changed");
        }
    }

    model_run& run_;
    const std::size_t page_;
    const std::size_t row_;
    host_backend host_;
    model_backend backend_{host_};
    model_pool pool_{backend_, {.chunk_size = bytes{page_}}};
    model_memory memory_;
    std::vector<one> held_;
};

} // namespace vtensor::testing
