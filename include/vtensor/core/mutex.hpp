// SPDX-License-Identifier: Apache-2.0
//
// The mutex as a type: what is shared between threads takes `std::mutex` (or the caller's own), what is not
// takes `no_mutex` and pays nothing.
#pragma once

#include <concepts>

namespace vtensor {

/// Anything with `lock`, `try_lock` and `unlock`, as the standard library's Lockable.
template <class M>
concept mutex_type = std::default_initializable<M> && requires(M& mutex) {
    mutex.lock();
    mutex.unlock();
    { mutex.try_lock() } -> std::convertible_to<bool>;
};

/// For one thread: locking is a no-op.
struct no_mutex {
    constexpr void lock() noexcept {}
    constexpr void unlock() noexcept {}
    [[nodiscard]] constexpr bool try_lock() noexcept { return true; }
};
static_assert(mutex_type<no_mutex>);

} // namespace vtensor
