// SPDX-License-Identifier: BSL-1.0
#include <rejoin.hpp>

// In the other unit, made with the other version.
using Function = void (*)();
Function other_parse();

int main() {
    // One program has both: neither version's function took the other's place.
    const auto parse = reinterpret_cast<Function>(&rejoin::IpAddress::parse);
    return parse != other_parse() ? 0 : 1;
}
