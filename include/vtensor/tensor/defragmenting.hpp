// SPDX-License-Identifier: Apache-2.0
//
// The verbs that bring live rows together, for one tensor and for several alike. How that is done is in
// together.hpp.
#pragma once

#include <vtensor/core/concepts.hpp>
#include <vtensor/core/defrag_plan.hpp>
#include <vtensor/core/exception.hpp>
#include <vtensor/memory/retiring_range.hpp>

#include <type_traits>

namespace vtensor::detail {

/// `Rows` derives from it and has `run(policy, moves, stream)`, where `stream` is null where the CPU moves
/// the rows. `Stream` is `no_stream` where the backend has none.
template <class Rows, class Stream>
class defragmenting {
    static constexpr bool has_streams = !std::is_same_v<Stream, no_stream>;

  public:
    /// Brings the live rows together as the policy plans it, and unmaps what the growth policy does not keep.
    /// The CPU moves the rows, and nothing queued may read them; `unsupported` where it cannot reach them.
    /// `carried_out` receives the moves, for arrays of the caller that go by slot (`defrag::apply`).
    template <class Policy>
    [[nodiscard]] status try_defragment(const Policy& policy, defrag::plan& carried_out) noexcept requires
        defrag_policy<Policy, defrag::state, defrag::plan> {
        return self().run(policy, carried_out, static_cast<const Stream*>(nullptr));
    }
    template <class Policy>
    [[nodiscard]] status try_defragment(const Policy& policy) noexcept {
        defrag::plan moves;
        return try_defragment(policy, moves);
    }
    template <class Policy>
    void defragment(const Policy& policy) {
        throw_if_failed(try_defragment(policy));
    }

    /// The same behind the work queued on the stream: copies are queued on it, and the pages given up retire
    /// behind them. A plan that moves pages first waits on the host for what is queued on the stream.
    template <class Policy>
    [[nodiscard]] status try_defragment(const Policy& policy, defrag::plan& carried_out,
                                        const Stream& stream) noexcept
        requires(has_streams&& defrag_policy<Policy, defrag::state, defrag::plan>) {
        return self().run(policy, carried_out, &stream);
    }
    template <class Policy>
    [[nodiscard]] status try_defragment(const Policy& policy,
                                        const Stream& stream) noexcept requires has_streams {
        defrag::plan moves;
        return try_defragment(policy, moves, stream);
    }
    template <class Policy>
    void defragment(const Policy& policy, const Stream& stream) requires has_streams {
        throw_if_failed(try_defragment(policy, stream));
    }

  protected:
    defragmenting() = default;
    defragmenting(const defragmenting&) = default;
    defragmenting(defragmenting&&) = default;
    defragmenting& operator=(const defragmenting&) = default;
    defragmenting& operator=(defragmenting&&) = default;
    ~defragmenting() = default;

  private:
    [[nodiscard]] Rows& self() noexcept { return static_cast<Rows&>(*this); }
};

} // namespace vtensor::detail
