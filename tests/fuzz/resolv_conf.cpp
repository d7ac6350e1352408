// SPDX-License-Identifier: BSL-1.0
// Any bytes as a resolv.conf: never more servers than promised, none twice, each an address.
#include <cstdlib>
#include <rejoin/network/resolv_conf.hpp>

using namespace rejoin;

namespace {

void expect(bool it_is_so) {
    if (!it_is_so) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    NetworkState state;
    Interface eth0;
    eth0.index = 2;
    eth0.name = Text<15>("eth0");
    expect(state.put(eth0));
    expect(parse_resolv_conf({reinterpret_cast<const char*>(data), size}, state));
    expect(state.dns_servers.size() <= NetworkState::dns_servers_max);
    for (const IpAddress& server : state.dns_servers) {
        expect(server.family != Family::none && (server.scope == 0 || (server.scope == 2 && server.is_link_local())));
        int times = 0;
        for (const IpAddress& other : state.dns_servers) times += other == server;
        expect(times == 1);
        IpAddress bare = server;
        bare.scope = 0;
        const auto again = IpAddress::parse(to_text(bare));
        expect(again && *again == bare);
    }
    return 0;
}
