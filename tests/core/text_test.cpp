// SPDX-License-Identifier: BSL-1.0
#include <rejoin/core/text.hpp>
#include <string>

#include "catch.hpp"

using rejoin::Text;
using rejoin::TextView;

TEST_CASE("Text cuts off what does not fit, and always ends in a zero") {
    Text<5> text;
    CHECK(text.empty());
    CHECK(std::string(text.c_str()).empty());
    text.append("abc");
    CHECK(text == "abc");
    text.append("defgh");
    CHECK(text == "abcde");
    CHECK(text.size() == 5);
    CHECK(std::string(text.c_str()) == "abcde");
    text.append("x");
    CHECK(text == "abcde");
    CHECK(Text<3>("12345") == "123");
    CHECK(Text<0>("1").empty());
    CHECK(Text<8>(TextView("a\0b", 3)).size() == 3);
}

TEST_CASE("Text writes numbers") {
    CHECK(Text<30>().append_number(0) == "0");
    CHECK(Text<30>().append_number(-1) == "-1");
    CHECK(Text<30>().append_number(INT64_MAX) == "9223372036854775807");
    CHECK(Text<30>().append_number(INT64_MIN) == "-9223372036854775808");
    CHECK(Text<30>().append_number(7, 3) == "007");
    CHECK(Text<30>().append_number(-7, 3) == "-007");
    CHECK(Text<30>().append_number(1234, 3) == "1234");
    CHECK(Text<30>().append_number(0, 0) == "0");
    CHECK(Text<30>().append_number(5, -4) == "5");
    CHECK(Text<60>().append_number(5, 1000).size() == 24);
    CHECK(Text<3>().append_number(12345) == "123");
    CHECK(Text<30>().append_hex(0) == "0");
    CHECK(Text<30>().append_hex(0xdeadbeef) == "deadbeef");
    CHECK(Text<30>().append_hex(UINT64_MAX) == "ffffffffffffffff");
    for (std::int64_t n : {9, 10, 99, 100, 12345678, -10, -99}) CHECK(TextView(Text<30>().append_number(n)) == std::to_string(n));
}

TEST_CASE("Text compares with every kind of text, and copies") {
    const Text<10> a("abc");
    Text<10> b = a;
    CHECK(a == b);
    b.append("d");
    CHECK(a != b);
    CHECK(a == std::string("abc"));
    CHECK("abc" == a);
    CHECK(Text<10>("abc") == Text<20>("abc"));
}
