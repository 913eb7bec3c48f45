// SPDX-License-Identifier: Apache-2.0
// Catch2's main(), compiled once for every test program. With version 3 it comes from Catch2::Catch2WithMain.
#if !__has_include(<catch2/catch_all.hpp>)
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
#endif
