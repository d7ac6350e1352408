// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/firewall/rule.hpp>

// What a packet filter of chains would do with what a rule is to let in. Pure.
namespace rejoin::inline v0_1::firewall {

/// Whether a condition holds for the packets in question. Ordered, so that of two that both have to hold the smaller counts.
enum class Holds : std::uint8_t {
    never,
    perhaps,  ///< that depends on what is not known, such as who sends them
    partly,   ///< for some of the ports that are asked for, whatever else
    always,
};
constexpr Holds both(Holds a, Holds b) { return a < b ? a : b; }
constexpr Holds opposite(Holds a) { return a == Holds::never ? Holds::always : a == Holds::always ? Holds::never : a; }

/// The packets in question: the first of a conversation, from another host, to a port of this one.
struct Sample {
    bool v6 = false;
    Protocol protocol = Protocol::tcp;
    std::uint16_t first_port = 0, last_port = 0;
    Text<15> interface_name;  ///< empty: any but the loopback
    std::uint32_t interface_index = 0;
};

/// What becomes of a packet.
enum class Fate : std::uint8_t { none, accepted, dropped };

struct FilterRule {
    enum class Verdict : std::uint8_t { none, accept, drop, jump, go_to, leave };
    Verdict verdict = Verdict::none;
    Holds holds = Holds::never;
    std::uint32_t target = 0;  ///< of `jump` and `go_to`: which chain
    std::uint64_t handle = 0;  ///< what the caller calls it
};

/// How it ends in one chain, and at which of its rules: their number, where none decides.
struct Walk {
    Fate fate = Fate::none;
    std::size_t at = 0;
    bool some_dropped = false;  ///< although not all: what depends on who sends it, or on how much comes
};

struct FilterChain {
    Array<FilterRule> rules;
    Walk walk;  ///< once it was walked
    bool walked = false;
};

namespace detail {

inline constexpr int jumps_max = 16;  // the kernel's own bound (NFT_JUMP_STACK_SIZE)

// Each chain is walked once, whoever jumps there.
inline const Walk& walk_chain(Array<FilterChain>& chains, std::size_t which, int depth) {
    using V = FilterRule::Verdict;
    FilterChain& chain = chains[which];
    Walk& result = chain.walk;
    if (chain.walked) return result;
    chain.walked = true;
    for (result.at = 0; result.at < chain.rules.size(); ++result.at) {
        const FilterRule& rule = chain.rules[result.at];
        if (rule.holds == Holds::never) continue;
        Fate fate = Fate::none;
        bool leaves = false;
        if (rule.verdict == V::accept || rule.verdict == V::drop) {
            fate = rule.verdict == V::accept ? Fate::accepted : Fate::dropped;
        } else if (rule.verdict == V::leave) {
            leaves = true;
        } else if (rule.verdict != V::none && depth < jumps_max && rule.target < chains.size()) {
            const Walk& there = walk_chain(chains, rule.target, depth + 1);
            fate = there.fate;
            result.some_dropped = result.some_dropped || there.some_dropped;
            leaves = rule.verdict == V::go_to;
        }
        // What drops some of the ports is in the way of all; what accepts some of them is not enough.
        if (fate == Fate::dropped && rule.holds < Holds::partly) result.some_dropped = true;
        if ((fate == Fate::dropped && rule.holds >= Holds::partly) || (fate == Fate::accepted && rule.holds == Holds::always)) {
            result.fate = fate;
            return result;
        }
        if (leaves && rule.holds == Holds::always) return result;
    }
    return result;
}

}  // namespace detail

/// Goes through that base chain, and those that it jumps to; `policy`: what becomes of what no rule decides. A chain is walked once.
inline Walk walk(Array<FilterChain>& chains, std::size_t base, Fate policy) {
    Walk result = detail::walk_chain(chains, base, 0);
    if (result.fate == Fate::none) {
        result.fate = policy;
        result.at = chains[base].rules.size();
    }
    return result;
}

}  // namespace rejoin::inline v0_1::firewall
