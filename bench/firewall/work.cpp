// SPDX-License-Identifier: BSL-1.0
// What letting a port in takes by netlink: reading the ruleset, finding the rule that drops, and one batch. With an argument, nothing of
// that.
#include <cstdlib>
#include <rejoin/firewall/nft/kernel.hpp>

using namespace rejoin;
using namespace rejoin::firewall;

int main(int argc, char**) {
    if (argc > 1) return 0;
    auto kernel = nft::Kernel::open();
    nft::Ruleset rules;
    if (!kernel || kernel->read(rules)) return 1;
    Rule rule = *Rule::parse("7000/tcp");
    rule.app = TextView("bench");
    Sample sample;
    sample.first_port = sample.last_port = rule.port;
    nft::Place place;
    const bool walked = rules.decide(sample, [&](std::size_t chain, const nft::Ruleset::Decision& decision) {
        if (decision.fate == Fate::dropped)
            place = {&rules.chains()[chain], decision.rule == nft::Ruleset::no_rule ? 0 : rules.rules()[decision.rule].handle};
    });
    if (!walked || place.chain == nullptr) return 1;
    return kernel->change([&](nft::Writer& to, std::uint32_t& sequence) { nft::open(to, place, rule, sequence); }) ? 1 : 0;
}
