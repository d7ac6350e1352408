// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/firewall/tools/iptables.hpp>

// Windows Firewall as INetFwPolicy2 tells of it, and what that means for a rule. Pure.
namespace rejoin::inline v0_1::firewall::windows {

enum : std::uint32_t { domain = 1, private_ = 2, public_ = 4, all_profiles = 7 };  // NET_FW_PROFILE2_…
inline constexpr std::int32_t any_protocol = 256;                                  // NET_FW_IP_PROTOCOL_ANY

struct KnownRule {
    Text<255> name;
    Text<1023> program;  ///< empty: any
    Text<255> ports;     ///< `80,443,5000-5010`; empty, or `*`: any
    std::int32_t protocol = any_protocol;
    std::uint32_t profiles = all_profiles;
    bool allows = true;
    bool narrow = false;  ///< for some remote or local addresses, kinds of interface or services alone
};
/// Of each profile, in the order domain, private, public.
struct State {
    std::uint32_t active = 0;
    bool on[3] = {}, blocks_all[3] = {}, allows_by_default[3] = {};
    /// Whether local changes count: 0; not, as group policy says otherwise: 1; not, as everything is blocked: 2 (NET_FW_MODIFY_STATE).
    int modify_state = 0;
    Array<KnownRule> rules;  ///< those that are on, and for what comes in
};

inline const char* profile_name(std::size_t i) {
    constexpr const char* names[] = {"domain", "private", "public"};
    return names[i];
}
inline bool wanted(const Rule& rule, std::size_t i) { return i == 0 ? rule.on_domain : i == 1 ? rule.on_private : rule.on_public; }
inline std::uint32_t profiles_of(const Rule& rule) {
    return (rule.on_domain ? domain : 0u) | (rule.on_private ? private_ : 0u) | (rule.on_public ? public_ : 0u);
}

namespace detail {

inline bool same_file(TextView a, TextView b) {
    if (a.size() != b.size()) return false;
    for (std::size_t i = 0; i < a.size(); ++i) {
        const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c == '/' ? '\\' : c; };
        if (lower(a[i]) != lower(b[i])) return false;
    }
    return true;
}
// Between quotes, at a prompt of Windows'.
inline bool is_plain(TextView text) {
    for (char c : text)
        for (char special : {'"', '%', '!', '^', '\n', '\r'})
            if (c == special) return false;
    return true;
}
// How many of the rule's ports are in the list.
inline Holds in_ports(TextView list, const Rule& rule) {
    if (list.size() == 0 || list == TextView("*")) return Holds::always;
    Text<255> colons;
    for (char c : list)
        if (c != ' ') colons.append({c == '-' ? ":" : &c, 1});
    Sample sample;
    sample.first_port = rule.port;
    sample.last_port = rule.last();
    return iptables::detail::in_ports(colons, sample);
}

}  // namespace detail

/// The same for an administrator's prompt.
inline Command netsh(const Rule& rule, bool remove) {
    const auto quoted = [](Command& to, TextView what) {
        to.append("\"");
        for (char c : what)
            if (c != '"') to.append({&c, 1});  // which no file's name has there
        to.append("\"");
    };
    Command command("netsh advfirewall firewall ");
    command.append(remove ? "delete" : "add").append(" rule name=");
    quoted(command, tag_of(rule));
    if (remove) return command;
    command.append(" dir=in action=allow protocol=")
        .append(rule.protocol == Protocol::tcp ? "TCP" : "UDP")
        .append(" localport=")
        .append(ports_of(rule));
    if (!rule.program.empty()) {
        command.append(" program=");
        quoted(command, rule.program);
    }
    command.append(" profile=");
    bool first = true;
    for (std::size_t i = 0; i < 3; ++i)
        if (wanted(rule, i)) command.append(std::exchange(first, false) ? "" : ",").append(profile_name(i));
    return command;
}

/// One gate for each profile that is active and on. False when memory is out.
inline bool judge(const State& state, const Rule& rule, Array<Gate>& gates) {
    const Tag tag = tag_of(rule);
    for (std::size_t i = 0; i < 3; ++i) {
        const std::uint32_t bit = 1u << i;
        if ((state.active & bit) == 0 || !state.on[i]) continue;
        Gate gate;
        gate.system = System::windows;
        gate.where = Text<191>("profile ").append(profile_name(i));
        if (rule.port == 0) {
            gate.stance = Stance::active;
            if (state.blocks_all[i]) gate.why = TextView("it blocks all incoming connections");
            if (!gates.push(std::move(gate))) return false;
            continue;
        }
        const KnownRule* blocker = nullptr;
        bool opened = false, allowed = state.allows_by_default[i];
        for (const KnownRule& known : state.rules) {
            if ((known.profiles & bit) == 0) continue;
            if (known.protocol != any_protocol && known.protocol != static_cast<std::int32_t>(rule.protocol)) continue;
            if (!known.program.empty() && (rule.program.empty() || !detail::same_file(known.program, rule.program))) continue;
            const Holds ports = detail::in_ports(known.ports, rule);
            if (!known.allows && ports != Holds::never && known.narrow) gate.some_dropped = true;
            if (known.narrow) continue;
            if (!known.allows && ports != Holds::never) blocker = &known;
            if (!known.allows || ports != Holds::always) continue;
            allowed = true;
            opened = opened || known.name == TextView(tag);
        }
        if (state.blocks_all[i]) {
            gate.stance = Stance::refused;
            gate.why = TextView("it blocks all incoming connections, those of allowed programs too");
        } else if (state.modify_state != 0) {
            gate.stance = allowed && blocker == nullptr ? Stance::allows : Stance::refused;
            gate.why = TextView("group policy decides here, and rules of this computer do not count");
        } else if (blocker != nullptr) {
            // To block is stronger than to allow, whoever says so: that rule is not ours to take away.
            gate.stance = Stance::refused;
            gate.why =
                Text<255>("a rule blocks this program, as it is left when somebody says no to Windows' question: ").append(blocker->name);
            // A name that could mean something else to the prompt is not for anybody to paste there.
            if (detail::is_plain(blocker->name) && detail::is_plain(blocker->program)) {
                gate.command = Command("netsh advfirewall firewall delete rule name=\"").append(blocker->name).append("\"");
                if (!blocker->program.empty()) gate.command.append(" program=\"").append(blocker->program).append("\"");
            }
        } else if (allowed) {
            gate.stance = opened ? Stance::opened : Stance::allows;
            if (opened) gate.inverse = netsh(rule, true);
        } else if (!wanted(rule, i)) {
            gate.stance = Stance::refused;
            gate.why = Text<255>("this network counts as ").append(profile_name(i)).append(", for which it was not asked");
        } else {
            gate.stance = Stance::blocks;
            gate.why = TextView("no rule allows it");
            gate.command = netsh(rule, false);
            gate.inverse = netsh(rule, true);
        }
        if (!gates.push(std::move(gate))) return false;
    }
    return true;
}

}  // namespace rejoin::inline v0_1::firewall::windows
