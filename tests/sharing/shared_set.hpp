// SPDX-License-Identifier: Apache-2.0
//
// What both processes of the test know: how many chunks are shared, what is written into them, and the words
// that they exchange beside them.
#pragma once

#include <vtensor/backends/host.hpp>
#include <vtensor/backends/os/unix_socket.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

namespace vtensor::testing {

inline constexpr std::size_t shared_count = 16;
inline constexpr bytes shared_size = 4_MiB;
inline constexpr bytes shared_total = shared_size * shared_count;

using shared_chunks = std::array<host_chunk, shared_count>;

/// Far longer than anything takes.
[[nodiscard]] inline wait_deadline soon() noexcept { return within(std::chrono::seconds{60}); }

/// The chunks side by side at one range of addresses, as long as it lives or until it is unmapped.
class shared_set {
  public:
    shared_set(host_backend& backend, const shared_chunks& chunks) : backend_{&backend} {
        start_ = backend.reserve(shared_total, 0_B).value();
        for (std::size_t index = 0; index < chunks.size(); ++index)
            throw_if_failed(backend.map(start_ + shared_size * index, chunks[index]));
        throw_if_failed(backend.set_access(start_, shared_total, access_mode::read_write));
    }
    shared_set(const shared_set&) = delete;
    shared_set& operator=(const shared_set&) = delete;
    ~shared_set() {
        static_cast<void>(backend_->unmap(start_, shared_total));
        static_cast<void>(backend_->release(start_, shared_total));
    }

    /// Every word is a function of its place and of the seed.
    void fill(std::uint64_t seed) noexcept {
        for (std::size_t index = 0; index < words().size(); ++index)
            words()[index] = word(seed, index);
    }
    [[nodiscard]] bool holds(std::uint64_t seed) const noexcept {
        for (std::size_t index = 0; index < words().size(); ++index) {
            if (words()[index] != word(seed, index))
                return false;
        }
        return true;
    }
    [[nodiscard]] bool empty() const noexcept {
        for (const std::uint64_t each : words()) {
            if (each != 0)
                return false;
        }
        return true;
    }

  private:
    [[nodiscard]] std::span<std::uint64_t> words() const noexcept {
        return {start_.to_pointer<std::uint64_t>(), shared_total.count() / sizeof(std::uint64_t)};
    }
    static constexpr std::uint64_t word(std::uint64_t seed, std::size_t index) noexcept {
        return (seed << 32 | 1) * (index + 1);
    }

    host_backend* backend_;
    address start_;
};

/// One letter as a message of its own.
[[nodiscard]] inline bool say(unix_socket& to, char letter) noexcept {
    const std::array content{static_cast<std::byte>(letter)};
    return to.send(content, {}, soon()).ok();
}
/// The next letter; 0 where there is none.
[[nodiscard]] inline char hear(unix_socket& from) noexcept {
    std::array<std::byte, 1> content{};
    return from.receive(content, {}, soon()) ? std::to_integer<char>(content[0]) : '\0';
}

} // namespace vtensor::testing
