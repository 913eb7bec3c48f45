// SPDX-License-Identifier: Apache-2.0
//
// Defragmentation policies: how the live rows of a tensor come together. Values without memory; they plan,
// the tensor moves. docs/defragmentation.md compares them.
#pragma once

#include <vtensor/core/defrag_plan.hpp>
#include <vtensor/policy/defrag/compact.hpp>
#include <vtensor/policy/defrag/hybrid.hpp>
#include <vtensor/policy/defrag/incremental.hpp>
#include <vtensor/policy/defrag/none.hpp>
#include <vtensor/policy/defrag/remap.hpp>
#include <vtensor/policy/defrag/swap_with_last.hpp>
