// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <iosfwd>
#include <string>

namespace oracle {

/// Checks one file and writes what was found. False where something differs or the file is refused.
bool check_file(const std::string& path, std::ostream& out);

} // namespace oracle
