// SPDX-License-Identifier: BSL-1.0
// Any bytes as /proc/net/if_inet6: each address makes sense, and names lie inside the text.
#include <cstdlib>
#include <rejoin/network/if_inet6.hpp>

using namespace rejoin;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const TextView text(reinterpret_cast<const char*>(data), size);
    parse_if_inet6(text, [&](const InterfaceAddress& address, TextView name) {
        const bool inside = name.size() > 0 && name.data() >= text.data() && name.data() + name.size() <= text.data() + text.size();
        if (!inside || address.ip.family != Family::v6 || address.prefix_length > 128 || address.interface_index == 0) std::abort();
    });
    return 0;
}
