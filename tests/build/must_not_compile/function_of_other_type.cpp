// SPDX-License-Identifier: BSL-1.0
// expect: (conversion from|no viable conversion from) .*lambda.*Function<void(| )\(int\)>
#include <rejoin/core/function.hpp>

rejoin::Function<void(int)> takes_text = [](const char*) {};
