// SPDX-License-Identifier: Apache-2.0
// Adaptors over the host backend keep the contract, alone and in a stack.
#include <conformance/fixtures.hpp>

#include <vtensor/adaptors/counting.hpp>
#include <vtensor/adaptors/failing.hpp>
#include <vtensor/adaptors/limiting.hpp>
#include <vtensor/adaptors/tracing.hpp>

#include <tuple>

namespace vtensor::conformance {

/// Touches memory as the host fixture does; `Stack` is made over its backend, whose chunks can be exported.
template <class Stack>
struct adapted_host_fixture : private host_fixture<4096, true> {
    using backend_type = typename Stack::top_type;
    using host_fixture<4096, true>::write;
    using host_fixture<4096, true>::read;
    using host_fixture<4096, true>::faults;
    using host_fixture<4096, true>::physical_bytes;

    [[nodiscard]] backend_type& backend() noexcept { return stack.top; }

    Stack stack{this->host};
};

struct counting_stack {
    using top_type = adaptors::counting<host_backend>;
    explicit counting_stack(host_backend& host) : top{host} {}
    top_type top;
};
struct limiting_stack {
    using top_type = adaptors::limiting<host_backend>;
    explicit limiting_stack(host_backend& host) : top{host, bytes{std::numeric_limits<std::size_t>::max()}} {}
    top_type top;
};
struct disarmed_stack {
    using top_type = adaptors::failing<host_backend>;
    explicit disarmed_stack(host_backend& host) : top{host} {}
    top_type top;
};
struct tracing_stack {
    using top_type = adaptors::tracing<host_backend, adaptors::memory_sink>;
    explicit tracing_stack(host_backend& host) : top{host, sink} {}
    adaptors::memory_sink sink;
    top_type top;
};
struct deep_stack {
    using counted = adaptors::counting<host_backend>;
    using limited = adaptors::limiting<counted>;
    using disarmed = adaptors::failing<limited>;
    using top_type = adaptors::tracing<disarmed, adaptors::memory_sink>;
    explicit deep_stack(host_backend& host)
        : first{host},
          second{first, bytes{std::numeric_limits<std::size_t>::max()}},
          third{second},
          top{third, sink} {}
    counted first;
    limited second;
    disarmed third;
    adaptors::memory_sink sink;
    top_type top;
};

static_assert(backend<counting_stack::top_type> && backend<limiting_stack::top_type> &&
              backend<disarmed_stack::top_type> && backend<tracing_stack::top_type> &&
              backend<deep_stack::top_type>);
static_assert(aliasing_backend<deep_stack::top_type> && host_visible_backend<deep_stack::top_type> &&
              exportable_backend<deep_stack::top_type>);
static_assert(!stream_ordered_backend<deep_stack::top_type> && !peer_access_backend<deep_stack::top_type>);

using conformance_fixtures =
    std::tuple<adapted_host_fixture<counting_stack>, adapted_host_fixture<limiting_stack>,
               adapted_host_fixture<disarmed_stack>, adapted_host_fixture<tracing_stack>,
               adapted_host_fixture<deep_stack>>;

} // namespace vtensor::conformance

#include <conformance/conformance.hpp>
