// SPDX-License-Identifier: BSL-1.0
#include <rejoin.hpp>

int main() {}
