// SPDX-License-Identifier: BSL-1.0
#include <rejoin.hpp>

rejoin::Description from_hostile_unit(const rejoin::Endpoint& endpoint);

int main() {
    const rejoin::Endpoint endpoint("::1", 4000);
    return from_hostile_unit(endpoint) == rejoin::TextView(to_text(endpoint)) ? 0 : 1;
}
