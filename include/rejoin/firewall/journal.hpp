// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/firewall/rule.hpp>

namespace rejoin::inline v0_1::firewall {

/// Who asked for an opening, and until when. Everything is found again without it, by its tag; it says what a tag cannot.
struct JournalEntry {
    Tag tag;
    std::int64_t until = 0;  ///< seconds since 1970; 0: until it is taken back
    std::uint32_t user = 0;
};

/// One line for each; what is no entry is passed over. Pure.
template <class F>
void each_entry(TextView text, F f) {
    while (text.size() > 0) {
        TextView line = detail::take_line(text);
        JournalEntry entry;
        std::size_t end = 0;
        while (end < line.size() && line[end] != ' ') ++end;
        if (end > 55 || !rule_of({line.data(), end})) continue;
        entry.tag = TextView(line.data(), end);
        line = detail::behind(line, end);
        std::int64_t numbers[2] = {};
        bool good = true;
        for (std::int64_t& number : numbers) {
            good = good && line.size() > 1 && line[0] == ' ' && line[1] >= '0' && line[1] <= '9';
            if (good) line = detail::behind(line, 1);
            while (good && line.size() > 0 && line[0] >= '0' && line[0] <= '9' && number < INT64_MAX / 20) {
                number = number * 10 + (line[0] - '0');
                line = detail::behind(line, 1);
            }
        }
        entry.until = numbers[0];
        entry.user = static_cast<std::uint32_t>(numbers[1]);
        if (good && line.size() == 0) f(entry);
    }
}
inline Text<127> to_line(const JournalEntry& entry) {
    return Text<127>(entry.tag).append(" ").append_number(entry.until).append(" ").append_number(entry.user).append("\n");
}

}  // namespace rejoin::inline v0_1::firewall
