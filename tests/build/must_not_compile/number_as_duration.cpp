// SPDX-License-Identifier: BSL-1.0
// expect: (conversion from 'int' to non-scalar type|no viable conversion from 'int' to) .*Duration
#include <rejoin/core/time.hpp>

rejoin::Duration unit_unknown = 5;
