// SPDX-License-Identifier: BSL-1.0
#include <rejoin.hpp>

using Function = void (*)();
Function other_parse();
Function other_parse() { return reinterpret_cast<Function>(&rejoin::v99_0::IpAddress::parse); }
