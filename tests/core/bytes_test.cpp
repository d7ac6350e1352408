// SPDX-License-Identifier: BSL-1.0
#include <limits>
#include <random>
#include <rejoin/core/bytes.hpp>
#include <rejoin/core/text.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"

using rejoin::Bytes;
using rejoin::TextView;

TEST_CASE("TextView looks at every kind of text") {
    CHECK(TextView().size() == 0);
    CHECK(TextView(static_cast<const char*>(nullptr)).size() == 0);
    CHECK(TextView("").size() == 0);
    CHECK(TextView("abc").size() == 3);
    CHECK(TextView("abc", 2) == "ab");
    CHECK(TextView(std::string("a\0b", 3)).size() == 3);
    CHECK(TextView(std::string_view("xyz")) == "xyz");
    CHECK(TextView(std::vector<char>{'q'}) == "q");
    CHECK(TextView(rejoin::Text<7>("text")) == "text");
    CHECK(TextView("abc")[1] == 'b');
    STATIC_REQUIRE(TextView("four").size() == 4);

    std::string joined;
    for (char c : TextView("loop")) joined += c;
    CHECK(joined == "loop");
}

TEST_CASE("TextView compares contents") {
    const std::string a = "same", b = "same";
    CHECK(TextView(a) == TextView(b));
    CHECK(TextView(a) != "sane");
    CHECK(TextView(a) != TextView("same or more"));
    CHECK(TextView("same or more") != TextView(a));
    CHECK(TextView() == "");
    CHECK(TextView(std::string("a\0b", 3)) != TextView(std::string("a\0c", 3)));
}

TEST_CASE("TextView as bytes") {
    const Bytes bytes = TextView("A\xff").bytes();
    REQUIRE(bytes.size() == 2);
    CHECK(bytes[0] == std::byte{0x41});
    CHECK(bytes[1] == std::byte{0xff});
    CHECK(TextView().bytes().empty());
}

TEST_CASE("load reads both orders, at any alignment") {
    const std::byte raw[] = {std::byte{0xee}, std::byte{0x81}, std::byte{0x02}, std::byte{0x03}, std::byte{0x04},
                             std::byte{0x05}, std::byte{0x06}, std::byte{0x07}, std::byte{0x88}};
    using std::endian;
    CHECK(rejoin::load<std::uint8_t>(raw + 1, endian::big) == 0x81);
    CHECK(rejoin::load<std::uint16_t>(raw + 1, endian::big) == 0x8102);
    CHECK(rejoin::load<std::uint16_t>(raw + 1, endian::little) == 0x0281);
    CHECK(rejoin::load<std::uint32_t>(raw + 1, endian::big) == 0x81020304);
    CHECK(rejoin::load<std::uint32_t>(raw + 1, endian::little) == 0x04030281);
    CHECK(rejoin::load<std::uint64_t>(raw + 1, endian::big) == 0x8102030405060788);
    CHECK(rejoin::load<std::uint64_t>(raw + 1, endian::little) == 0x8807060504030281);
    CHECK(rejoin::load_big<std::uint32_t>(raw + 1) == 0x81020304);
}

TEMPLATE_TEST_CASE("what store_big writes, load_big reads, and no byte more is touched", "", std::uint8_t, std::uint16_t, std::uint32_t,
                   std::uint64_t) {
    std::mt19937_64 random(1);
    for (int i = 0; i < 1000; ++i) {
        const auto value = i == 0 ? std::numeric_limits<TestType>::max() : static_cast<TestType>(random());
        std::byte raw[16] = {};
        const std::size_t at = 1 + random() % 4;
        rejoin::store_big(raw + at, value);
        REQUIRE(rejoin::load_big<TestType>(raw + at) == value);
        REQUIRE(raw[at - 1] == std::byte{});
        REQUIRE(raw[at + sizeof value] == std::byte{});
        REQUIRE(raw[at] == static_cast<std::byte>(value >> (8 * (sizeof value - 1))));
    }
}

TEST_CASE("copy copies, and allows nothing to come from and go nowhere") {
    std::byte to[3] = {};
    rejoin::copy(to, TextView("xy").bytes());
    CHECK(to[0] == std::byte{'x'});
    CHECK(to[1] == std::byte{'y'});
    CHECK(to[2] == std::byte{});
    rejoin::copy(nullptr, {});
}
