// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/firewall/tools/iptables.hpp>

// The application firewall of macOS, as its tool `socketfilterfw` tells of it: it lets programs in, each by its file and who has signed
// that, whatever the port. Pure.
namespace rejoin::inline v0_1::firewall::application_firewall {

inline constexpr const char* tool = "/usr/libexec/ApplicationFirewall/socketfilterfw";

enum class Listed : std::uint8_t { unknown, no, allowed, blocked };

struct State {
    bool known = false;  ///< the tool has answered
    bool on = false;
    bool blocks_all = false;    ///< whatever else is said
    bool allows_signed = true;  ///< programs that are signed with a certificate that Apple vouches for, unless they are listed as blocked
    Listed program = Listed::unknown;
};

namespace detail {

inline bool has(TextView text, TextView part) {
    for (std::size_t i = 0; i + part.size() <= text.size(); ++i) {
        std::size_t n = 0;
        while (n < part.size() && (text[i + n] | 0x20) == (part[n] | 0x20)) ++n;
        if (n == part.size()) return true;
    }
    return false;
}

}  // namespace detail

/// What `--getglobalstate`, `--getblockall`, `--getallowsigned` and `--getappblocked` print, in the words of macOS 10.13 to 15.
inline State read(TextView global, TextView block_all, TextView allow_signed, TextView program) {
    using detail::has;
    State state;
    state.known = has(global, "State = ") || has(global, "firewall is");
    state.on = has(global, "State = 1") || has(global, "State = 2") || (!has(global, "State = ") && has(global, "enabled"));
    state.blocks_all = has(global, "State = 2") && block_all.size() == 0;
    if (has(block_all, "disabled"))
        state.blocks_all = false;
    else if (has(block_all, "enabled") || has(block_all, "set to block all"))
        state.blocks_all = true;
    // Two lines: of what came with the system, and of what was downloaded, which is what counts here.
    if (has(allow_signed, "downloaded signed software disabled") || (!has(allow_signed, "downloaded") && has(allow_signed, "disabled")))
        state.allows_signed = false;
    if (has(program, "not part of the firewall") || has(program, "not in the firewall"))
        state.program = Listed::no;
    else if (has(program, "permitted") || has(program, "allowed") || has(program, "not blocked"))
        state.program = Listed::allowed;
    else if (has(program, "blocked") || has(program, "blocking"))
        state.program = Listed::blocked;
    return state;
}
/// Whether the tool says that device management forbids changes.
inline bool managed(TextView said) { return detail::has(said, "managed") || detail::has(said, "cannot be modified"); }

inline iptables::Words words(const char* option, const Rule& rule) {
    iptables::Words words;
    words.add(tool).add(option);
    if (!rule.program.empty()) words.add(rule.program);
    return words;
}

/// How it stands to the program, which is `signed_` (codesign(1) verifies it), and what could be done. False where it is off: no gate.
inline bool judge(const State& state, const Rule& rule, bool signed_, Gate& gate) {
    gate.system = System::application_firewall;
    gate.where = TextView(rule.program);
    if (!state.known) {
        gate.stance = Stance::unknown;
        gate.error = Errc::malformed;
        return true;
    }
    if (!state.on) return false;
    if (rule.port == 0) {
        gate.stance = Stance::active;
        if (state.blocks_all) gate.why = TextView("it blocks all incoming connections");
        return true;
    }
    if (state.blocks_all) {
        gate.stance = Stance::refused;
        gate.why = TextView("it is set to block all incoming connections, whatever else is allowed: System Settings, Network, Firewall");
        return true;
    }
    const bool by_signature = state.program != Listed::blocked && state.program != Listed::allowed && signed_ && state.allows_signed;
    gate.stance = state.program == Listed::allowed || by_signature ? Stance::allows : Stance::blocks;
    if (by_signature) gate.why = TextView("as signed software");
    if (gate.stance == Stance::allows) return true;
    const Command unblock = words("--unblockapp", rule).typed(), block = words("--blockapp", rule).typed();
    if (state.program == Listed::blocked) {
        gate.why = TextView("this program is listed as blocked: somebody has said no when the system asked");
        gate.command = Command("sudo ").append(unblock);
        gate.inverse = Command("sudo ").append(block);
        return true;
    }
    gate.why =
        TextView(signed_ ? "this program is not listed; the system asks when it listens"
                         : "this program is not listed, nor signed: the system asks when it listens, and again whenever its file changes");
    gate.command = Command("sudo ").append(words("--add", rule).typed()).append(" && sudo ").append(unblock);
    gate.inverse = Command("sudo ").append(words("--remove", rule).typed());
    return true;
}

}  // namespace rejoin::inline v0_1::firewall::application_firewall
