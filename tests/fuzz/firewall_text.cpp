// SPDX-License-Identifier: BSL-1.0
// Any text as what the tools of a system print about its firewall. Input: a byte that says which, then the text.
#include <cstdlib>
#include <rejoin/firewall/journal.hpp>
#include <rejoin/firewall/reach/message.hpp>
#include <rejoin/firewall/tools/application_firewall.hpp>
#include <rejoin/firewall/tools/dbus.hpp>
#include <rejoin/firewall/tools/pf.hpp>
#include <rejoin/firewall/tools/ufw.hpp>

using namespace rejoin;
using namespace rejoin::firewall;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 1) return 0;
    const TextView text(reinterpret_cast<const char*>(data) + 1, size - 1);
    Sample sample;
    sample.first_port = 7000;
    sample.last_port = (data[0] & 0x80) != 0 ? 7010 : 7000;
    sample.v6 = (data[0] & 0x40) != 0;
    Rule rule;
    rule.app = TextView("game");
    rule.port = 7000;
    switch (data[0] % 8) {
        case 0: {
            iptables::Saved saved;
            if (!saved.read(text, sample))
                if (const Walk walked = saved.input(); walked.fate == Fate::none) std::abort();
            std::size_t found = 0;
            iptables::each_tagged(text, tag_of(rule), "iptables", [&](const iptables::Words& words) {
                ++found;
                if (words.size() < 3) std::abort();
            });
            if ((found > 0) != iptables::has_tagged(text, tag_of(rule))) std::abort();
            Array<Tag> tags;
            if (!collect_tags(text, tags)) std::abort();
            for (const Tag& tag : tags)
                if (!(tag_of(*rule_of(tag)) == tag)) std::abort();
            break;
        }
        case 1:
            static_cast<void>(pf::judge(text, sample, (data[0] & 0x20) != 0));
            break;
        case 2:
            static_cast<void>(ipfw::judge(text, sample));
            static_cast<void>(ipfw::find(text, tag_of(rule)));
            break;
        case 3:
            static_cast<void>(application_firewall::read(text, text, text, text));
            break;
        case 4:
            static_cast<void>(ufw::interface_of(text, "rejoin-game-tcp-7000"));
            static_cast<void>(ufw::enabled(text));
            break;
        case 5:
            each_entry(text, [](const JournalEntry& entry) {
                if (!rule_of(entry.tag)) std::abort();
            });
            break;
        case 6: {
            dbus::Reply reply;
            Bytes bytes = text.bytes();
            for (auto there = dbus::next(bytes, reply); there && *there; there = dbus::next(bytes, reply)) {
                static_cast<void>(reply.text());
                static_cast<void>(reply.truth());
                reply.each_text([&](TextView one) {
                    if (one.size() > size) std::abort();
                });
            }
            break;
        }
        default:
            // What is a rule, or a tag, is written as it was read.
            if (const auto read = rule_of(text); read && !(TextView(tag_of(*read)) == text)) std::abort();
            static_cast<void>(Rule::parse(text));
            // So is what `Reach` and `Prober` say.
            if (const auto message = ReachMessage::decode(text.bytes())) {
                std::byte again[ReachMessage::size];
                message->encode(again);
                if (std::memcmp(again, text.data(), sizeof again) != 0) std::abort();
            }
    }
    return 0;
}
