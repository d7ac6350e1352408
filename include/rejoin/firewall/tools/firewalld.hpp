// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/firewall/tools/iptables.hpp>

namespace rejoin::inline v0_1::firewall::firewalld {

/// The rich rule that opens it (firewalld.richlanguage(5)). It notes the tag where nobody listens, which costs nothing: rules of firewalld
/// have no comments.
inline Text<255> rich_rule(const Rule& rule) {
    return Text<255>("rule port port=\"")
        .append(ports_of(rule))
        .append("\" protocol=\"")
        .append(to_text(rule.protocol))
        .append("\" nflog prefix=\"")
        .append(tag_of(rule))
        .append("\" accept");
}
/// What firewall-cmd is to be told to open it; `remove`: to take that back.
inline Command command(const Rule& rule, TextView zone, bool remove) {
    iptables::Words words;
    words.add("firewall-cmd");
    if (zone.size() > 0) words.add(Text<63>("--zone=").append(zone));
    words.add(Text<288>(remove ? "--remove-rich-rule=" : "--add-rich-rule=").append(rich_rule(rule)));
    if (!remove && rule.expiry > Duration()) words.add(Text<31>("--timeout=").append_number(rule.seconds()));
    return words.typed();
}

}  // namespace rejoin::inline v0_1::firewall::firewalld
