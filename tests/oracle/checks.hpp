// SPDX-License-Identifier: Apache-2.0
//
// The checks of a file of reference vectors. Both throw bad_file where the file is none.
#pragma once

#include "findings.hpp"
#include "oracle_file.hpp"

namespace oracle {

/// Everything that is decided once, from a whole prompt, and the attention beneath it.
void check_prefill(const oracle_file& file, findings& found);

/// LazyEviction, decided again and again while decoding.
void check_lazy(const oracle_file& file, findings& found);

} // namespace oracle
