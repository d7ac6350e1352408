// SPDX-License-Identifier: BSL-1.0
// Any bytes as what the kernel answers about its packet filter, and what becomes of a packet then. Input: two bytes that choose the packet,
// then datagrams of netlink, one behind another.
#include <cstdlib>
#include <rejoin/firewall/nft/steps.hpp>

using namespace rejoin;
using namespace rejoin::firewall;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 2) return 0;
    nft::Ruleset rules(std::endian::little);
    Bytes rest{reinterpret_cast<const std::byte*>(data) + 2, size - 2};
    // The sequence number of the first message is the one that was asked with.
    const std::uint32_t sequence = rest.size() >= 12 ? load<std::uint32_t>(rest.data() + 8, std::endian::little) : 0;
    bool done = false;
    static_cast<void>(rules.read(rest, sequence, done));
    for (nft::Set& set : rules.sets()) set.known = set.matters();
    Sample sample;
    sample.v6 = (data[0] & 1) != 0;
    sample.protocol = (data[0] & 2) != 0 ? Protocol::udp : Protocol::tcp;
    sample.first_port = static_cast<std::uint16_t>(data[1] * 100 + 22);
    sample.last_port = static_cast<std::uint16_t>(sample.first_port + ((data[0] & 4) != 0 ? 10 : 0));
    if ((data[0] & 8) != 0) sample.interface_name = TextView("eth0");
    const bool walked = rules.decide(sample, [&](std::size_t chain, const nft::Ruleset::Decision& decision) {
        if (chain >= rules.chains().size() || decision.fate == Fate::none) std::abort();
        if (decision.rule == nft::Ruleset::no_rule) return;
        if (decision.rule >= rules.rules().size() || rules.rules()[decision.rule].chain != chain) std::abort();
        static_cast<void>(rules.target_of(decision.rule));
    });
    if (!walked) std::abort();
    return 0;
}
