// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/firewall/nft/ruleset.hpp>
#include <rejoin/firewall/report.hpp>

// What is changed in nf_tables, as messages and as commands of nft(8). Pure.
namespace rejoin::inline v0_1::firewall::nft {

inline const char* family_name(std::uint8_t family) {
    return family == nfproto_inet ? "inet" : family == nfproto_ipv4 ? "ip" : family == nfproto_ipv6 ? "ip6" : "?";
}
/// The set of what is open for a time, in the chain's table.
using SetName = Text<56>;
inline SetName set_name(const Rule& rule) {
    return SetName("rejoin/").append(rule.app).append("/").append(to_text(rule.protocol)).append("/").append(ports_of(rule));
}

/// Where a rule goes: before the one that decides, so that what comes earlier holds for it too; or behind the last.
struct Place {
    const Ruleset::Chain* chain = nullptr;
    std::uint64_t before = 0;  ///< a rule's handle; 0: behind the last
};

namespace detail {

class Expressions {
public:
    explicit Expressions(Writer& to) : to_(to), list_(to.begin_nested(rule::expressions)) {}
    ~Expressions() { to_.close(list_); }

    template <class F>
    void add(TextView name, F data) {
        const std::size_t one = to_.begin_nested(expression::list_elem);
        to_.add(expression::name, name);
        const std::size_t inner = to_.begin_nested(expression::data);
        data();
        to_.close(inner);
        to_.close(one);
    }
    void value(std::uint16_t type, Bytes bytes) {
        const std::size_t at = to_.begin_nested(type);
        to_.add(expression::data_value, bytes);
        to_.close(at);
    }
    void compare(std::uint32_t op, Bytes with) {
        add("cmp", [&] {
            to_.add(expression::cmp_sreg, std::uint32_t{1});
            to_.add(expression::cmp_op, op);
            value(expression::cmp_data, with);
        });
    }
    void meta(std::uint32_t key) {
        add("meta", [&] {
            to_.add(expression::meta_key, key);
            to_.add(expression::meta_dreg, std::uint32_t{1});
        });
    }

private:
    Writer& to_;
    std::size_t list_;
};

inline void key(Writer& to, std::uint16_t port) {
    std::byte raw[2];
    store_big(raw, port);
    const std::size_t at = to.begin_nested(element::key);
    to.add(expression::data_value, Bytes(raw));
    to.close(at);
}
// One element of the set: its ports, from now on for so long.
inline void elements(Writer& to, std::uint16_t message, std::uint16_t flags, std::uint32_t sequence, const Ruleset::Chain& chain,
                     const Rule& rule, bool timed) {
    to.message(message, flags, sequence, chain.family);
    to.add(element::table, TextView(chain.table));
    to.add(element::set, TextView(set_name(rule)));
    const std::size_t list = to.begin_nested(element::elements);
    const std::size_t first = to.begin_nested(expression::list_elem);
    key(to, rule.port);
    if (timed) to.add(element::timeout, std::uint64_t{rule.seconds()} * 1000);
    to.close(first);
    if (rule.last() != rule.port && rule.last() != 65535) {
        const std::size_t last = to.begin_nested(expression::list_elem);
        to.add(element::flags, element::interval_end);
        key(to, static_cast<std::uint16_t>(rule.last() + 1));
        to.close(last);
    }
    to.close(list);
}

}  // namespace detail

/// Opens, in one batch that the kernel takes whole or not at all, between `begin` and `end`.
inline void begin(Writer& to) { to.message(nfnl_msg_batch_begin, nlm_f_request, 0, nfproto_unspec, 10); }
inline void end(Writer& to, std::uint32_t sequence) { to.message(nfnl_msg_batch_end, nlm_f_request, sequence, nfproto_unspec, 10); }
inline void open(Writer& to, const Place& place, const Rule& rule, std::uint32_t& sequence) {
    const Ruleset::Chain& chain = *place.chain;
    const bool timed = rule.expiry > Duration();
    if (timed) {
        to.message(newset, nlm_f_request | nlm_f_ack | nlm_f_create, ++sequence, chain.family);
        to.add(set::table, TextView(chain.table));
        to.add(set::name, TextView(set_name(rule)));
        to.add(set::flags, set::timeout | (rule.last() != rule.port ? set::interval : 0));
        to.add(set::key_type, std::uint32_t{13});  // inet_service
        to.add(set::key_len, std::uint32_t{2});
        to.add(set::id, sequence);
        const std::byte big_endian[] = {{}, std::byte{4}, std::byte{2},
                                        {}, {},           {}};  // nft's note on the order of its keys, as it writes it
        std::byte order[6];
        copy(order, Bytes(big_endian));
        if constexpr (std::endian::native == std::endian::big) std::swap(order[2], order[5]);
        to.add(set::userdata, Bytes(order));
        detail::elements(to, newsetelem, nlm_f_request | nlm_f_ack | nlm_f_create, ++sequence, chain, rule, true);
    }
    const bool at_end = place.before == 0;
    to.message(newrule, static_cast<std::uint16_t>(nlm_f_request | nlm_f_ack | nlm_f_create | (at_end ? nlm_f_append : 0)), ++sequence,
               chain.family);
    to.add(rule::table, TextView(chain.table));
    to.add(rule::chain, TextView(chain.name));
    if (!at_end) to.add(rule::position, place.before);
    {
        detail::Expressions list(to);
        const auto raw_port = [](std::uint16_t port, std::byte(&raw)[2]) {
            store_big(raw, port);
            return Bytes(raw);
        };
        if (!rule.interface_name.empty()) {
            list.meta(expression::meta_iifname);
            std::byte name[16] = {};
            copy(name, TextView(rule.interface_name).bytes());
            list.compare(expression::cmp_eq, Bytes(name));
        }
        list.meta(expression::meta_l4proto);
        const std::byte protocol[] = {static_cast<std::byte>(rule.protocol)};
        list.compare(expression::cmp_eq, Bytes(protocol));
        list.add("payload", [&] {
            to.add(expression::payload_dreg, std::uint32_t{1});
            to.add(expression::payload_base, expression::base_transport);
            to.add(expression::payload_offset, std::uint32_t{2});
            to.add(expression::payload_len, std::uint32_t{2});
        });
        std::byte raw[2];
        if (timed) {
            list.add("lookup", [&] {
                to.add(expression::lookup_sreg, std::uint32_t{1});
                to.add(expression::lookup_set, TextView(set_name(rule)));
            });
        } else if (rule.last() == rule.port) {
            list.compare(expression::cmp_eq, raw_port(rule.port, raw));
        } else {
            list.compare(expression::cmp_gte, raw_port(rule.port, raw));
            list.compare(expression::cmp_lte, raw_port(rule.last(), raw));
        }
        list.add("immediate", [&] {
            to.add(expression::immediate_dreg, std::uint32_t{0});
            const std::size_t data = to.begin_nested(expression::immediate_data), verdict = to.begin_nested(expression::data_verdict);
            to.add(expression::verdict_code, expression::accept);
            to.close(verdict);
            to.close(data);
        });
    }
    const Tag tag = tag_of(rule);
    std::byte comment[64] = {std::byte{0}, static_cast<std::byte>(tag.size() + 1)};
    copy(comment + 2, TextView(tag).bytes());
    to.add(rule::userdata, Bytes(comment, tag.size() + 3));
}
/// Once more for the whole time, where it is open for a time; `there`: it has not run out yet.
inline void renew(Writer& to, const Ruleset::Chain& chain, const Rule& rule, bool there, std::uint32_t& sequence) {
    if (there) detail::elements(to, delsetelem, nlm_f_request | nlm_f_ack, ++sequence, chain, rule, false);
    detail::elements(to, newsetelem, nlm_f_request | nlm_f_ack | nlm_f_create, ++sequence, chain, rule, true);
}
/// Takes away one rule of that chain, and the set.
inline void remove_rule(Writer& to, const Ruleset::Chain& chain, std::uint64_t handle, std::uint32_t& sequence) {
    to.message(delrule, nlm_f_request | nlm_f_ack, ++sequence, chain.family);
    to.add(rule::table, TextView(chain.table));
    to.add(rule::chain, TextView(chain.name));
    to.add(rule::handle, handle);
}
inline void remove_set(Writer& to, const Set& set, std::uint32_t& sequence) {
    to.message(delset, nlm_f_request | nlm_f_ack, ++sequence, set.family);
    to.add(set::table, TextView(set.table));
    to.add(set::name, TextView(set.name));
}
/// Asks for all of it: chains, sets, rules; or for what is in a set.
inline void ask(Writer& to, Message what, std::uint32_t sequence) {
    to.message(what, nlm_f_request | nlm_f_dump, sequence, nfproto_unspec);
}
inline void ask_elements(Writer& to, const Set& set, std::uint32_t sequence) {
    to.message(getsetelem, nlm_f_request | nlm_f_dump, sequence, set.family);
    to.add(element::table, TextView(set.table));
    to.add(element::set, TextView(set.name));
}

// ---- The same, to be typed.

inline Command table_words(const Ruleset::Chain& chain) { return Command(family_name(chain.family)).append(" ").append(chain.table); }
/// What `nft` is to be told to open it.
inline Command open_command(const Place& place, const Rule& rule) {
    const Command table = table_words(*place.chain);
    Command text;
    if (rule.expiry > Duration())
        text.append("add set ")
            .append(table)
            .append(" ")
            .append(set_name(rule))
            .append(" { type inet_service; flags ")
            .append(rule.last() != rule.port ? "interval,timeout" : "timeout")
            .append("; }; add element ")
            .append(table)
            .append(" ")
            .append(set_name(rule))
            .append(" { ")
            .append(ports_of(rule))
            .append(" timeout ")
            .append_number(rule.seconds())
            .append("s }; ");
    text.append(place.before == 0 ? "add" : "insert").append(" rule ").append(table).append(" ").append(place.chain->name);
    if (place.before != 0) text.append(" handle ").append_number(static_cast<std::int64_t>(place.before));
    if (!rule.interface_name.empty()) text.append(" iifname \"").append(rule.interface_name).append("\"");
    text.append(" ").append(to_text(rule.protocol)).append(" dport ");
    rule.expiry > Duration() ? text.append("@").append(set_name(rule)) : text.append(ports_of(rule));
    text.append(" accept comment \"").append(tag_of(rule)).append("\"");
    Command command("nft");
    add_word(command, text);
    return command;
}
/// What is to be typed to take it back: `handle` 0 where that is to be found out first.
inline Command close_command(const Ruleset::Chain& chain, std::uint64_t handle, const Rule& rule, bool with_set) {
    const Command table = table_words(chain);
    Command text;
    if (handle == 0) {
        text.append("nft -a list chain ")
            .append(table)
            .append(" ")
            .append(chain.name)
            .append(" | sed -n '\\|\"")
            .append(tag_of(rule))
            .append("\"|s/.* handle //p' | xargs -r -n 1 nft delete rule ")
            .append(table)
            .append(" ")
            .append(chain.name)
            .append(" handle");
        if (with_set) text.append("; nft delete set ").append(table).append(" ").append(set_name(rule));
        return text;
    }
    text.append("delete rule ")
        .append(table)
        .append(" ")
        .append(chain.name)
        .append(" handle ")
        .append_number(static_cast<std::int64_t>(handle));
    if (with_set) text.append("; delete set ").append(table).append(" ").append(set_name(rule));
    Command command("nft");
    add_word(command, text);
    return command;
}

}  // namespace rejoin::inline v0_1::firewall::nft
