// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/firewall/tools/windows_policy.hpp>

namespace rejoin::inline v0_1::firewall {

/// Windows Firewall. As `LinuxFirewall` in what it promises; a rule is for this program where none is named. `Policy` has `program`,
/// `read`, `add` and `remove` as `windows::ComPolicy`.
template <class Policy>
class WindowsFirewall {
public:
    struct Options {
        Text<255> helper;    ///< unused: the commands say it all
        Text<255> journal;   ///< unused: rules carry their tag, and nothing here expires by itself
        Text<1023> program;  ///< this program's file, for rules that name none
    };

    WindowsFirewall() = default;
    explicit WindowsFirewall(const Options& options) : options_(options) {}
    /// What it goes by; for tests.
    Policy& policy() { return policy_; }

    Report detect() { return look(Rule()); }
    Report explain(const Rule& rule) { return rule.valid() ? look(rule) : failed(rule, Errc::invalid_argument); }
    Report apply(const Rule& rule) {
        if (!rule.valid()) return failed(rule, Errc::invalid_argument);
        const Report before = look(rule);
        bool blocked = false;
        for (const Gate& gate : before.gates) blocked = blocked || gate.stance == Stance::blocks;
        if (!blocked) return look(rule);
        const Error error = policy_.add(with_program(rule));
        Report after = look(rule);
        for (Gate& gate : after.gates) {
            const Gate* const was = find_gate(before, gate);
            if (was == nullptr || was->stance != Stance::blocks) continue;
            gate.changed = gate.stance == Stance::opened;
            if (!gate.changed) gate.error = error ? error : Error(Errc::unsupported);  // it said yes, and reads otherwise
        }
        return after;
    }
    Report verify(const Rule& rule, Proof proof = Proof::none) {
        Report report = explain(rule);
        report.proof = proof;
        return report;
    }
    Report revert(const Rule& rule) {
        if (!rule.valid()) return failed(rule, Errc::invalid_argument);
        const Report before = look(rule);
        bool there = false;
        for (const windows::KnownRule& known : state_.rules) there = there || known.name == TextView(tag_of(rule));
        const Error error = there ? policy_.remove(rule) : Error();
        Report after = look(rule);
        mark_reverted(before, after);
        if (error) after.error = error;
        return after;
    }
    /// `entry` is always null.
    template <class F>
    Error each_opening(F f) {
        state_ = {};
        if (const Error error = policy_.read(state_)) return error;
        for (const windows::KnownRule& known : state_.rules)
            if (const auto rule = rule_of(known.name)) f(*rule, nullptr);
        return {};
    }
    Error clear(TextView app) {
        Array<Rule> old;
        bool kept = true;
        Error first = each_opening([&](const Rule& rule, std::nullptr_t) {
            if (rule.app == app) kept = kept && old.push(rule);
        });
        for (const Rule& rule : old)
            if (const Error error = policy_.remove(rule); error && !first) first = error;
        return kept ? first : Error(Errc::out_of_memory);
    }

private:
    static Report failed(const Rule& rule, Error error) {
        Report report;
        report.rule = rule;
        report.error = error;
        return report;
    }
    Rule with_program(const Rule& rule) const {
        Rule with = rule;
        if (with.program.empty()) with.program = options_.program;
        if (with.program.empty()) with.program = policy_.program();
        return with;
    }
    Report look(const Rule& rule) {
        Report report;
        report.rule = rule;
        state_ = {};
        const Rule with = with_program(rule);
        if (const Error error = policy_.read(state_)) {
            Gate gate;
            gate.system = System::windows;
            gate.stance = Stance::unknown;
            gate.error = error;
            if (rule.port != 0) {
                gate.command = windows::netsh(with, false);
                gate.inverse = windows::netsh(with, true);
            }
            if (!report.gates.push(std::move(gate))) report.error = Errc::out_of_memory;
            return report;
        }
        if (!windows::judge(state_, rule.port == 0 ? rule : with, report.gates)) report.error = Errc::out_of_memory;
        return report;
    }

    Options options_;
    Policy policy_;
    windows::State state_;
};

}  // namespace rejoin::inline v0_1::firewall
