// SPDX-License-Identifier: Apache-2.0
#include "app/settings_json.hpp"

namespace decoder {

nlohmann::ordered_json to_json(const settings& chosen, vtensor::bytes page) {
    return {{"backend", name_of(chosen.memory)},
            {"growth", name_of(chosen.cache.growth)},
            {"page_bytes", page.count()},
            {"kv_limit_bytes", chosen.cache.limit.count()},
            {"kv_type", name_of(chosen.cache.type)},
            {"threads", chosen.threads},
            {"prefill_chunk", chosen.prefill_chunk},
            {"temperature", chosen.how.temperature},
            {"top_p", chosen.how.top_p},
            {"seed", chosen.how.seed}};
}

} // namespace decoder
