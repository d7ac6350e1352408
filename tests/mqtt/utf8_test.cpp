// SPDX-License-Identifier: BSL-1.0
#include <rejoin/mqtt/utf8.hpp>
#include <string>

#include "catch.hpp"

using namespace rejoin;
using namespace rejoin::mqtt;

TEST_CASE("a character is told from every other by its bytes") {
    // Against the definition: what encodes a scalar value, in as few bytes as it can be.
    const auto well_formed = [](const std::string& s) {
        const auto unit = [&](std::size_t i) { return static_cast<unsigned char>(s[i]); };
        const unsigned lead = unit(0);
        const std::size_t n = lead < 0x80 ? 1 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 0;
        if (n == 0 || s.size() != n || lead >= 0xf8) return false;
        std::uint32_t value = n == 1 ? lead : lead & (0x7fu >> n);
        for (std::size_t i = 1; i < n; ++i) {
            if ((unit(i) & 0xc0) != 0x80) return false;
            value = value << 6 | (unit(i) & 0x3f);
        }
        const std::uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
        return value >= least[n] && value <= 0x10ffff && (value < 0xd800 || value > 0xdfff);
    };
    for (unsigned lead = 1; lead < 256; ++lead) {
        const std::string one(1, static_cast<char>(lead));
        REQUIRE((check_string(TextView(one).bytes()) == Violation::none) == well_formed(one));
        for (unsigned second = 1; second < 256; ++second) {
            const std::string two = one + static_cast<char>(second);
            if (lead < 0x80 || second < 0x80) continue;
            REQUIRE((check_string(TextView(two).bytes()) == Violation::none) == well_formed(two));
            for (unsigned third : {0x7fu, 0x80u, 0xbfu, 0xc0u}) {
                const std::string three = two + static_cast<char>(third);
                if (third >= 0x80 && lead >= 0xe0)
                    REQUIRE((check_string(TextView(three).bytes()) == Violation::none) == well_formed(three));
                if (lead < 0xf0 || third < 0x80) continue;
                for (unsigned fourth : {0x7fu, 0x80u, 0xbfu, 0xc0u})
                    if (fourth >= 0x80) {
                        const std::string four = three + static_cast<char>(fourth);
                        REQUIRE((check_string(TextView(four).bytes()) == Violation::none) == well_formed(four));
                    }
            }
        }
    }
}

TEST_CASE("wherever it stands, a character that may not be there is found") {
    for (std::size_t size : {1u, 7u, 8u, 9u, 16u, 31u, 40u})
        for (std::size_t at = 0; at < size; ++at) {
            const auto with = [&](char c) {
                std::string text(size, 'a');
                text[at] = c;
                return text;
            };
            CAPTURE(size, at);
            CHECK(check_string(TextView(with(0)).bytes()) == Violation::utf8_nul);
            CHECK(check_string(TextView(with('\x80')).bytes()) == Violation::utf8_ill_formed);
            CHECK(check_string(TextView(with('#')).bytes()) == Violation::none);
            CHECK(check_topic_name(TextView(with('#')).bytes()) == Violation::topic_wildcard);
            CHECK(check_topic_name(TextView(with('+')).bytes()) == Violation::topic_wildcard);
            for (char fine : {'\x01', '"', '$', '*', ',', '/', '\x7f'})
                CHECK(check_topic_name(TextView(with(fine)).bytes()) == Violation::none);
        }
}

TEST_CASE("topic filters: MQTT-4.7.1-1, MQTT-4.7.1-2, MQTT-4.7.1-3, MQTT-4.7.3-1, MQTT-4.8.2-1, MQTT-4.8.2-2") {
    for (const char* good : {"a", "/", "a/b", "+", "#", "+/+", "a/+/b", "a/#", "/#", "+/#", "a/+", "$SYS/#", "$share/g/a/#", "$share/g/+",
                             "a b", "$share/g//"}) {
        CAPTURE(good);
        CHECK(valid_topic_filter(good));
    }
    for (const char* bad : {"", "a+", "+a", "a/b+", "a#", "#/a", "a/#/b", "a/+b/c", "##", "++", "\xff", "$share/g", "$share/g/",
                            "$share//a", "$share/g+/a", "$share/g/a#", "$share/"}) {
        CAPTURE(bad);
        CHECK_FALSE(valid_topic_filter(bad));
    }
    CHECK_FALSE(valid_topic_filter(std::string("a\0b", 3)));
    CHECK(valid_topic_filter(std::string(65535, 'a')));
    CHECK_FALSE(valid_topic_filter(std::string(65536, 'a')));
}

TEST_CASE("what a filter matches: 5 §4.7, MQTT-4.7.2-1") {
    const struct {
        const char *filter, *topic;
        bool matches;
    } cases[] = {
        {"a", "a", true},
        {"a", "b", false},
        {"a", "a/", false},
        {"a/b", "a/b", true},
        {"a/b", "a", false},
        {"a", "a/b", false},
        {"sport/tennis/player1/#", "sport/tennis/player1", true},
        {"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
        {"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
        {"sport/tennis/player1/#", "sport/tennis/player12", false},
        {"#", "a/b/c", true},
        {"#", "/", true},
        {"sport/+", "sport", false},
        {"sport/+", "sport/", true},
        {"sport/+", "sport/a/b", false},
        {"+/+", "/finance", true},
        {"/+", "/finance", true},
        {"+", "/finance", false},
        {"+/b", "a/b", true},
        {"a/+/c", "a/b/c", true},
        {"a/+/c", "a//c", true},
        {"a/+/c", "a/b/d", false},
        {"#", "$SYS/a", false},
        {"+/a", "$SYS/a", false},
        {"$SYS/#", "$SYS/a", true},
        {"$SYS/+", "$SYS/a", true},
        {"a/#", "b", false},
        {"a/#", "ab", false},
    };
    for (const auto& c : cases) {
        CAPTURE(c.filter, c.topic);
        CHECK(matches(c.filter, c.topic) == c.matches);
    }
}
