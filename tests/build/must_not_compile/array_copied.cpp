// SPDX-License-Identifier: BSL-1.0
// expect: (use|call) (of|to) (implicitly-)?deleted .*Array
#include <rejoin/core/array.hpp>

rejoin::Array<int> copy(const rejoin::Array<int>& array) { return array; }
