// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/firewall/rule.hpp>

namespace rejoin::inline v0_1::firewall {

/// What may stand between a port and the others.
enum class System : std::uint8_t { nftables, iptables, firewalld, ufw, windows, application_firewall, pf, ipfw };
constexpr const char* to_text(System system) {
    constexpr const char* names[] = {"nftables", "iptables", "firewalld", "ufw", "Windows Firewall", "application firewall", "pf", "ipfw"};
    return names[static_cast<int>(system)];
}

/// How one of them stands to a rule.
enum class Stance : std::uint8_t {
    active,   ///< is there; no rule was asked about
    allows,   ///< lets it in, and did so before
    opened,   ///< lets it in by what carries the rule's tag
    blocks,   ///< does not; `command` would open it
    refused,  ///< does not, and is not this host's to change: it is managed, or blocks everything
    unknown,  ///< cannot be told: `error`
};
constexpr const char* to_text(Stance stance) {
    constexpr const char* names[] = {"active", "allows", "opened", "blocks", "blocks, and is not to be changed here", "unknown"};
    return names[static_cast<int>(stance)];
}

/// One gate: a chain, a zone, a profile.
struct Gate {
    System system = System::nftables;
    Stance stance = Stance::active;
    bool some_dropped = false;  ///< although it lets it in: what depends on who sends it, or on how much comes
    bool changed = false;       ///< by this call
    Error error;                ///< why it is not known, or could not be changed
    Text<191> where;            ///< in its own words: `inet filter input`, `zone public`
    Text<255> why;              ///< what decides there
    Command command;            ///< what an administrator could type to open it
    Command inverse;            ///< and to take that back

    friend bool operator==(const Gate& a, const Gate& b) {
        return a.system == b.system && a.stance == b.stance && a.some_dropped == b.some_dropped && a.changed == b.changed &&
               a.error == b.error && a.where == b.where && a.why == b.why && a.command == b.command && a.inverse == b.inverse;
    }
};

/// What somebody on another host has found out by trying.
enum class Proof : std::uint8_t { none, reached, not_reached };

/// What is known of a host's firewalls, and of a rule.
struct Report {
    Rule rule;  ///< `port` 0: none was asked about
    Proof proof = Proof::none;
    Error error;  ///< something else went wrong: `invalid_argument`, `out_of_memory`
    Array<Gate> gates;

    /// Whether no gate is known to block, and none is unknown.
    bool let_in() const {
        for (const Gate& gate : gates)
            if (gate.stance != Stance::allows && gate.stance != Stance::opened) return false;
        return !error;
    }
    bool changed() const {
        for (const Gate& gate : gates)
            if (gate.changed) return true;
        return false;
    }
    friend bool operator==(const Report& a, const Report& b) {
        if (!(a.rule == b.rule) || a.proof != b.proof || !(a.error == b.error) || a.gates.size() != b.gates.size()) return false;
        for (std::size_t i = 0; i < a.gates.size(); ++i)
            if (!(a.gates[i] == b.gates[i])) return false;
        return true;
    }
};

/// The same gate in another report; null where it is not there.
inline const Gate* find_gate(const Report& in, const Gate& like) {
    for (const Gate& gate : in.gates)
        if (gate.system == like.system && gate.where == like.where) return &gate;
    return nullptr;
}
/// What `revert` has changed: the gates that were opened before it, and are not any more.
inline void mark_reverted(const Report& before, Report& after) {
    for (Gate& gate : after.gates)
        if (const Gate* const was = find_gate(before, gate)) gate.changed = was->stance == Stance::opened && gate.stance != Stance::opened;
    for (const Gate& was : before.gates) {
        if (was.stance != Stance::opened || find_gate(after, was) != nullptr) continue;
        Gate gate;  // it has nothing to say any more
        gate.system = was.system;
        gate.stance = Stance::allows;
        gate.changed = true;
        gate.where = was.where;
        if (!after.gates.push(std::move(gate))) after.error = Errc::out_of_memory;
    }
}

/// In one line, for people: nothing is called open that nobody has reached.
inline Description summary(const Report& report) {
    Description text;
    if (report.error) return text.append("could not be looked at");
    if (report.rule.port != 0) text.append(ports_of(report.rule)).append("/").append(to_text(report.rule.protocol)).append(": ");
    if (report.proof == Proof::reached) return text.append("open: another host has reached it");
    std::size_t blocking = 0, unknown = 0, final = 0;
    for (const Gate& gate : report.gates) {
        blocking += gate.stance == Stance::blocks ? 1 : 0;
        final += gate.stance == Stance::refused ? 1 : 0;
        unknown += gate.stance == Stance::unknown ? 1 : 0;
    }
    if (final > 0) return text.append("blocked, and not to be changed here");
    if (blocking > 0) return text.append("blocked by this host");
    if (unknown > 0) return text.append("unknown: what is active cannot be read without privilege");
    if (report.rule.port == 0) return text.append(report.gates.empty() ? "no firewall is active" : "firewalls are active");
    text.append("let in by this host");
    if (report.proof == Proof::not_reached) return text.append(", but another host has not reached it: something else is in the way");
    return text.append("; unverified, as no other host has tried");
}
namespace detail {

// What others have named may have anything in it, and a terminal does what it is told.
inline Text<255> printable(TextView text) {
    Text<255> plain;
    for (char c : text) plain.append({static_cast<unsigned char>(c) < ' ' || c == 127 ? "?" : &c, 1});
    return plain;
}

}  // namespace detail

/// Calls `f(TextView)` with each line of all of it, without its end.
template <class F>
void each_line(const Report& report, F f) {
    f(TextView(summary(report)));
    for (const Gate& gate : report.gates) {
        Text<511> line("  ");
        line.append(to_text(gate.system));
        if (!gate.where.empty()) line.append(", ").append(detail::printable(gate.where));
        line.append(": ").append(to_text(gate.stance));
        if (gate.changed) line.append(" (changed now)");
        if (!gate.why.empty()) line.append(" (").append(detail::printable(gate.why)).append(")");
        if (gate.some_dropped) line.append("; some may be dropped, depending on who sends it or how much comes");
        f(TextView(line));
        if (gate.error) f(TextView(Text<127>("    error ").append_number(gate.error.code())));
        if (!gate.command.empty()) f(TextView(Text<1600>("    to open:    ").append(gate.command)));
        if (!gate.inverse.empty()) f(TextView(Text<1600>("    to revert:  ").append(gate.inverse)));
    }
}

}  // namespace rejoin::inline v0_1::firewall
