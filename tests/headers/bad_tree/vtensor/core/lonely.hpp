// SPDX-License-Identifier: Apache-2.0
//
// Names a type without including its header: what the self-contained test must find.
#pragma once

inline std::size_t lonely() { return 0; }
