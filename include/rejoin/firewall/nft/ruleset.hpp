// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/firewall/nft/match.hpp>

namespace rejoin::inline v0_1::firewall::nft {

/// The rules of nf_tables, read from the kernel's answers: chains, sets and what is in them, rules. Pure. Bounded: of more than it holds it
/// says so.
class Ruleset {
public:
    static constexpr std::size_t chains_max = 8192, sets_max = 8192, elements_max = 1 << 18, rules_max = 1 << 18, bytes_max = 64u << 20;

    struct Chain {
        Text<127> table, name;
        std::uint8_t family = 0;
        bool base = false;
        bool drops = false;  ///< by policy
        std::uint32_t hook = 0;
        std::int32_t priority = 0;
        Text<15> type;
    };
    struct Entry {
        std::uint32_t chain = 0, at = 0, size = 0;  ///< expressions, in the arena
        std::uint64_t handle = 0;
        Text<127> comment;
    };

    explicit Ruleset(std::endian order = std::endian::native) : order_(order) {}

    /// Takes what the kernel has answered to that request. `malformed`; `too_large` for more than it holds; `out_of_memory`; the system's
    /// error.
    Error read(Bytes datagram, std::uint32_t sequence, bool& done) {
        Received one;
        while (!datagram.empty()) {
            if (!next_message(datagram, order_, one)) return Errc::malformed;
            if (one.sequence != sequence) continue;  // an answer to what was asked before
            if (one.type == nlmsg_done || one.type == nlmsg_error) {
                done = true;
                if (one.error != 0) return Error::system(one.error);
                continue;
            }
            if (!each_attribute(one.attributes, order_, [](std::uint16_t, Bytes) { return true; })) return Errc::malformed;
            interrupted_ = interrupted_ || (one.flags & nlm_f_dump_intr) != 0;
            Error error;
            if (one.type == newchain) error = chain_is(one);
            if (one.type == newset) error = set_is(one);
            if (one.type == newsetelem) error = elements_are(one);
            if (one.type == newrule) error = rule_is(one);
            if (error) return error;
        }
        return {};
    }
    /// Whether it changed while it was read: then it is to be read again.
    bool interrupted() const { return interrupted_; }
    const Array<Chain>& chains() const { return chains_; }
    const Array<Entry>& rules() const { return rules_; }
    Array<Set>& sets() { return sets_; }
    const Array<Set>& sets() const { return sets_; }

    /// What becomes of the sample in a base chain: the rule that decides, as a place in `rules()`, or `no_rule` for the policy.
    static constexpr std::size_t no_rule = ~std::size_t{0};
    struct Decision {
        Fate fate = Fate::none;
        std::size_t rule = no_rule;  ///< of the base chain
        bool some_dropped = false;
    };
    /// For every base chain in turn, `f(which, Decision)`. False when memory is out.
    template <class F>
    bool decide(const Sample& sample, F f) const {
        Array<FilterChain> chains;
        for (std::size_t i = 0; i < chains_.size(); ++i)
            if (!chains.push({})) return false;
        Array<std::size_t> firsts;  // the places in rules_ of each chain's, in order
        for (std::size_t i = 0; i < rules_.size(); ++i) {
            const Entry& entry = rules_[i];
            const Chain& chain = chains_[entry.chain];
            if (!meets(chain.family, sample.v6)) continue;
            const Outcome outcome = evaluate({arena_.data() + entry.at, entry.size}, sample, sets_, chain.family, chain.table, order_);
            FilterRule rule;
            rule.holds = outcome.holds;
            rule.verdict = outcome.verdict;
            rule.handle = i;
            if (outcome.verdict == FilterRule::Verdict::jump || outcome.verdict == FilterRule::Verdict::go_to)
                rule.target = static_cast<std::uint32_t>(find(chain.family, chain.table, outcome.chain));
            if (!chains[entry.chain].rules.push(rule)) return false;
        }
        for (std::size_t i = 0; i < chains_.size(); ++i) {
            if (!chains_[i].base || !meets(chains_[i].family, sample.v6)) continue;
            const Walk walked = walk(chains, i, chains_[i].drops ? Fate::dropped : Fate::accepted);
            Decision decision{walked.fate, no_rule, walked.some_dropped};
            if (walked.at < chains[i].rules.size()) decision.rule = static_cast<std::size_t>(chains[i].rules[walked.at].handle);
            f(i, decision);
        }
        return true;
    }

    /// To where a rule jumps, whenever it holds; empty where it does not.
    TextView target_of(std::size_t rule) const {
        TextView found;
        const Entry& entry = rules_[rule];
        each_attribute({arena_.data() + entry.at, entry.size}, order_, [&](std::uint16_t, Bytes one) {
            if (!(text(attribute(one, order_, expression::name)) == TextView("immediate"))) return true;
            const Bytes data = attribute(attribute(one, order_, expression::data), order_, expression::immediate_data);
            found = text(attribute(attribute(data, order_, expression::data_verdict), order_, expression::verdict_chain));
            return found.size() == 0;
        });
        return found;
    }

private:
    static bool meets(std::uint8_t family, bool v6) { return family == nfproto_inet || family == (v6 ? nfproto_ipv6 : nfproto_ipv4); }
    std::size_t find(std::uint8_t family, TextView table, TextView name) const {
        for (std::size_t i = 0; i < chains_.size(); ++i)
            if (chains_[i].family == family && chains_[i].name == name && chains_[i].table == table) return i;
        return chains_.size();
    }
    std::size_t find_set(std::uint8_t family, TextView table, TextView name) const {
        for (std::size_t i = 0; i < sets_.size(); ++i)
            if (sets_[i].family == family && sets_[i].name == name && sets_[i].table == table) return i;
        return sets_.size();
    }
    Bytes of(const Received& one, std::uint16_t type) const { return attribute(one.attributes, order_, type); }

    Error chain_is(const Received& one) {
        if (chains_.size() >= chains_max) return Errc::too_large;
        Chain made;
        made.family = one.family;
        made.table = text(of(one, chain::table));
        made.name = text(of(one, chain::name));
        made.type = text(of(one, chain::type));
        made.drops = number(of(one, chain::policy), 1) == 0;
        if (const Bytes hook = of(one, chain::hook); !hook.empty()) {
            made.base = true;
            made.hook = number(attribute(hook, order_, chain::hook_num), 0xffffffff);
            made.priority = static_cast<std::int32_t>(number(attribute(hook, order_, chain::hook_priority)));
        }
        return chains_.push(std::move(made)) ? Error() : Error(Errc::out_of_memory);
    }
    Error set_is(const Received& one) {
        if (sets_.size() >= sets_max) return Errc::too_large;
        Set made;
        made.family = one.family;
        made.table = text(of(one, set::table));
        made.name = text(of(one, set::name));
        made.flags = number(of(one, set::flags));
        made.key_type = number(of(one, set::key_type));
        made.key_length = number(of(one, set::key_len));
        return sets_.push(std::move(made)) ? Error() : Error(Errc::out_of_memory);
    }
    Error elements_are(const Received& one) {
        const std::size_t which = find_set(one.family, text(of(one, element::table)), text(of(one, element::set)));
        if (which == sets_.size()) return {};
        Set& to = sets_[which];
        Error error;
        const bool whole = each_attribute(of(one, element::elements), order_, [&](std::uint16_t, Bytes raw) {
            if (++elements_ > elements_max) return error = Errc::too_large, false;
            Element made;
            const std::uint32_t flags = number(attribute(raw, order_, element::flags));
            made.ends = (flags & element::interval_end) != 0;
            made.catches = (flags & element::catchall) != 0;
            const Bytes key = attribute(attribute(raw, order_, element::key), order_, expression::data_value);
            if (key.size() > sizeof made.key) return true;
            copy(made.key, key);
            const Bytes verdict = attribute(attribute(raw, order_, element::data), order_, expression::data_verdict);
            made.verdict = number(attribute(verdict, order_, expression::verdict_code), 0xffffffff);
            made.chain = text(attribute(verdict, order_, expression::verdict_chain));
            if (!to.elements.push(std::move(made))) error = Errc::out_of_memory;
            return !error;
        });
        return error || whole ? error : Error(Errc::malformed);
    }
    Error rule_is(const Received& one) {
        const std::size_t chain = find(one.family, text(of(one, rule::table)), text(of(one, rule::chain)));
        if (chain == chains_.size()) return {};  // made since the chains were read, or of a family that is not looked at
        const Bytes expressions = of(one, rule::expressions);
        if (rules_.size() >= rules_max || arena_.size() + expressions.size() > bytes_max) return Errc::too_large;
        Entry made;
        made.chain = static_cast<std::uint32_t>(chain);
        made.at = static_cast<std::uint32_t>(arena_.size());
        made.size = static_cast<std::uint32_t>(expressions.size());
        const Bytes handle = of(one, rule::handle);
        made.handle = handle.size() == 8 ? load_big<std::uint64_t>(handle.data()) : 0;
        // Data of nft's: a byte of type (0: a comment), one of length, and that.
        for (Bytes data = of(one, rule::userdata); data.size() >= 2;) {
            const std::size_t size = std::to_integer<std::size_t>(data[1]);
            if (size > data.size() - 2) break;
            if (data[0] == std::byte{0}) made.comment = text(data.subspan(2, size));
            data = data.subspan(2 + size);
        }
        if (made.comment.empty()) made.comment = xt_comment(expressions);
        if (!arena_.append(expressions.data(), expressions.size()) || !rules_.push(std::move(made))) return Errc::out_of_memory;
        return {};
    }
    // That of iptables' module of this name.
    TextView xt_comment(Bytes expressions) const {
        TextView found;
        each_attribute(expressions, order_, [&](std::uint16_t, Bytes one) {
            const Bytes data = attribute(one, order_, expression::data);
            if (text(attribute(one, order_, expression::name)) == TextView("match") &&
                text(attribute(data, order_, expression::match_name)) == TextView("comment"))
                found = text(attribute(data, order_, expression::match_info));
            return found.size() == 0;
        });
        return found;
    }

    std::endian order_;
    bool interrupted_ = false;
    Array<Chain> chains_;
    Array<Set> sets_;
    Array<Entry> rules_;
    Array<std::byte> arena_;
    std::size_t elements_ = 0;
};

}  // namespace rejoin::inline v0_1::firewall::nft
