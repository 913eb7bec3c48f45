// SPDX-License-Identifier: Apache-2.0
//
// Catch2, version 2 or 3, whichever is installed. Tests include this and nothing of Catch2 directly.
#pragma once

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
namespace Catch {
using Detail::Approx;
namespace Matchers {
/// Version 3's name for version 2's matcher.
inline StdString::ContainsMatcher ContainsSubstring(const std::string& text) { return Contains(text); }
} // namespace Matchers
} // namespace Catch
#endif
