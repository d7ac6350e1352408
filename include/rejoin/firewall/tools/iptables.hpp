// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/firewall/report.hpp>
#include <rejoin/firewall/walk.hpp>

// iptables(8): what `iptables-save` prints, and the words of its commands. Pure.
namespace rejoin::inline v0_1::firewall::iptables {

/// A command as a program is started with it: no shell takes it apart.
class Words {
public:
    Words& add(TextView word) {
        if (count_ < words_max && text_.size() + word.size() < sizeof(Command)) {
            starts_[count_++] = static_cast<std::uint16_t>(text_.size());
            text_.append(word).append({"", 1});
        } else {
            whole_ = false;
        }
        return *this;
    }
    /// Whether all of them had room.
    bool whole() const { return whole_; }
    std::size_t size() const { return count_; }
    const char* operator[](std::size_t i) const { return text_.data() + starts_[i]; }
    /// As it is typed.
    Command typed() const {
        Command command;
        for (std::size_t i = 0; i < count_; ++i) add_word(command, (*this)[i]);
        return command;
    }

private:
    static constexpr std::size_t words_max = 32;
    Command text_;
    std::uint16_t starts_[words_max] = {};
    std::size_t count_ = 0;
    bool whole_ = true;
};

/// What opens it in chain `INPUT`: `-I INPUT n` before the rule of that number, or behind the last for 0; `remove`: what takes that back.
inline Words words(const char* program, const Rule& rule, std::size_t before, bool remove) {
    Words words;
    words.add(program).add("-w").add(remove ? "-D" : before == 0 ? "-A" : "-I").add("INPUT");
    if (!remove && before != 0) words.add(Text<24>().append_number(static_cast<std::int64_t>(before)));
    if (!rule.interface_name.empty()) words.add("-i").add(rule.interface_name);
    words.add("-p").add(to_text(rule.protocol)).add("-m").add(to_text(rule.protocol)).add("--dport").add(ports_of(rule, ":"));
    words.add("-m").add("comment").add("--comment").add(tag_of(rule)).add("-j").add("ACCEPT");
    return words;
}

namespace detail {

// The words of one line, with quotes taken off.
class Line {
public:
    explicit Line(TextView line) : rest_(line) {}
    bool next(Text<255>& word) {
        word = {};
        while (rest_.size() > 0 && rest_[0] == ' ') drop();
        if (rest_.size() == 0) return false;
        for (bool quoted = false; rest_.size() > 0 && (quoted || rest_[0] != ' '); drop()) {
            if (rest_[0] == '"') {
                quoted = !quoted;
                continue;
            }
            if (rest_[0] == '\\' && quoted && rest_.size() > 1) drop();
            word.append({rest_.data(), 1});
        }
        return true;
    }

private:
    void drop() { rest_ = firewall::detail::behind(rest_, 1); }
    TextView rest_;
};

inline bool lists(TextView list, TextView wanted) {
    while (list.size() > 0) {
        std::size_t n = 0;
        while (n < list.size() && list[n] != ',') ++n;
        if (TextView(list.data(), n) == wanted) return true;
        list = firewall::detail::behind(list, n < list.size() ? n + 1 : n);
    }
    return false;
}
// `22`, `22:24`, or several with commas between; names are not known here.
inline Holds in_ports(TextView list, const Sample& sample) {
    std::uint32_t count = 0;
    const std::uint32_t all = std::uint32_t{sample.last_port} - sample.first_port + 1;
    while (list.size() > 0) {
        const int first = firewall::detail::take_port(list);
        int last = first;
        if (list.size() > 0 && list[0] == ':') {
            list = firewall::detail::behind(list, 1);
            last = firewall::detail::take_port(list);
        }
        if (first < 0 || last < first) return Holds::perhaps;
        if (list.size() > 0 && list[0] != ',') return Holds::perhaps;
        if (list.size() > 0) list = firewall::detail::behind(list, 1);
        const int from = first > sample.first_port ? first : sample.first_port, to = last < sample.last_port ? last : sample.last_port;
        if (to >= from) count += static_cast<std::uint32_t>(to - from + 1);
    }
    return count == 0 ? Holds::never : count >= all ? Holds::always : Holds::partly;
}

}  // namespace detail

/// What `iptables-save` prints of table `filter`, for one sample.
class Saved {
public:
    static constexpr std::size_t chains_max = 4096, rules_max = 1 << 17;

    /// `malformed`, `too_large`, `out_of_memory`.
    Error read(TextView text, const Sample& sample) {
        bool filter = false;
        while (text.size() > 0) {
            const TextView line = firewall::detail::take_line(text);
            if (line.size() == 0 || line[0] == '#') continue;
            if (line[0] == '*') {
                filter = line == TextView("*filter");
                continue;
            }
            if (!filter) continue;
            detail::Line words(line);
            Text<255> word;
            words.next(word);
            if (word.data()[0] == ':') {
                const std::size_t which = chain(firewall::detail::behind(word, 1));
                if (which == none) return Errc::too_large;
                words.next(word);
                drops_[which] = TextView(word) == TextView("DROP");
            } else if (TextView(word) == TextView("-A")) {
                if (const Error error = rule(words, sample)) return error;
            } else if (!(TextView(word) == TextView("COMMIT"))) {
                return Errc::malformed;
            }
        }
        return {};
    }
    /// What becomes of it in chain `INPUT`: `at` is the number of the deciding rule, from 1, or 0 for the policy. Once.
    Walk input() {
        Walk walked;
        const std::size_t which = find("INPUT");
        if (which == none) {
            walked.fate = Fate::accepted;
            return walked;
        }
        walked = walk(chains_, which, drops_[which] ? Fate::dropped : Fate::accepted);
        walked.at = walked.at < chains_[which].rules.size() ? walked.at + 1 : 0;
        return walked;
    }
    /// Whether there is more in `INPUT` than to let everything in.
    bool any() const {
        const std::size_t which = find("INPUT");
        return which != none && (drops_[which] || !chains_[which].rules.empty());
    }
private:
    static constexpr std::size_t none = ~std::size_t{0};
    std::size_t find(TextView name) const {
        for (std::size_t i = 0; i < names_.size(); ++i)
            if (names_[i] == name) return i;
        return none;
    }
    std::size_t chain(TextView name) {
        if (const std::size_t known = find(name); known != none) return known;
        if (names_.size() >= chains_max || !names_.push(Text<31>(name)) || !chains_.push({}) || !drops_.push(false)) return none;
        return names_.size() - 1;
    }
    Error rule(detail::Line& words, const Sample& sample) {
        Text<255> word, value;
        if (!words.next(word)) return Errc::malformed;
        const std::size_t in = chain(word);
        if (in == none || ++rules_ > rules_max) return Errc::too_large;
        FilterRule rule;
        rule.holds = Holds::always;
        bool inverted = false;
        const auto require = [&](Holds holds) { rule.holds = both(rule.holds, std::exchange(inverted, false) ? opposite(holds) : holds); };
        const auto is = [&](const char* option) { return TextView(word) == TextView(option); };
        while (words.next(word)) {
            if (is("!")) {
                inverted = true;
                continue;
            }
            if (is("-m")) {
                words.next(value);
                continue;
            }
            if (is("--comment")) {
                words.next(value);
                continue;
            }
            if (is("-j") || is("-g")) {
                words.next(value);
                const TextView target = value;
                rule.verdict = target == TextView("ACCEPT")                                 ? FilterRule::Verdict::accept
                               : target == TextView("DROP") || target == TextView("REJECT") ? FilterRule::Verdict::drop
                               : target == TextView("RETURN")                               ? FilterRule::Verdict::leave
                                                                                            : FilterRule::Verdict::none;
                if (const std::size_t there = find(target); rule.verdict == FilterRule::Verdict::none && there != none) {
                    rule.verdict = is("-g") ? FilterRule::Verdict::go_to : FilterRule::Verdict::jump;
                    rule.target = static_cast<std::uint32_t>(there);
                }
                break;  // what follows is the target's
            }
            if (is("-p")) {
                words.next(value);
                const bool tcp = TextView(value) == TextView("tcp") || TextView(value) == TextView("6"),
                           udp = TextView(value) == TextView("udp") || TextView(value) == TextView("17");
                require((sample.protocol == Protocol::tcp ? tcp : udp) ? Holds::always : Holds::never);
            } else if (is("-i")) {
                words.next(value);
                require(by(value, sample));
            } else if (is("--dport") || is("--dports")) {
                words.next(value);
                require(detail::in_ports(value, sample));
            } else if (is("--ctstate") || is("--state")) {
                words.next(value);
                require(detail::lists(value, "NEW") ? Holds::always : Holds::never);
            } else if (is("--dst-type")) {
                words.next(value);
                require(detail::lists(value, "LOCAL") ? Holds::always : Holds::never);
            } else if (is("--syn")) {
                require(Holds::always);
            } else if (word.size() > 1 && word.data()[0] == '-') {
                inverted = false;
                rule.holds = both(rule.holds, Holds::perhaps);
            }
        }
        return chains_[in].rules.push(rule) ? Error() : Error(Errc::out_of_memory);
    }
    static Holds by(TextView name, const Sample& sample) {
        if (name == TextView("lo")) return Holds::never;
        if (sample.interface_name.empty()) return Holds::perhaps;
        if (name.size() > 0 && name[name.size() - 1] == '+')
            return firewall::detail::starts(sample.interface_name, {name.data(), name.size() - 1}) ? Holds::always : Holds::never;
        return sample.interface_name == name ? Holds::always : Holds::never;
    }

    Array<Text<31>> names_;
    Array<FilterChain> chains_;
    Array<bool> drops_;
    std::size_t rules_ = 0;
};

/// Calls `f(const Words&)` with what takes away each rule whose comment is the tag, and nothing besides, in the words in which
/// `iptables-save` has printed it.
template <class F>
void each_tagged(TextView text, const Tag& tag, const char* tool, F f) {
    while (text.size() > 0) {
        const TextView line = firewall::detail::take_line(text);
        if (!firewall::detail::starts(line, "-A ")) continue;
        Words words;
        words.add(tool).add("-w").add("-D");
        detail::Line rest(firewall::detail::behind(line, 3));
        bool ours = false, comment = false;
        for (Text<255> word; rest.next(word); comment = word == TextView("--comment")) {
            ours = ours || (comment && word == TextView(tag));
            words.add(word);
        }
        if (ours) f(words);
    }
}
inline bool has_tagged(TextView text, const Tag& tag) {
    bool found = false;
    each_tagged(text, tag, "", [&](const Words&) { found = true; });
    return found;
}

}  // namespace rejoin::inline v0_1::firewall::iptables
