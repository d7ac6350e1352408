// SPDX-License-Identifier: BSL-1.0
#include <rejoin/handoff/json.hpp>
#include <string>

#include "catch.hpp"

using namespace rejoin;
using handoff::Json;

namespace {

bool valid(std::string_view text) { return static_cast<bool>(Json::parse(text)); }
std::string text(Json json) { return {json.text().data(), json.text().size()}; }
Json member(Json object, const char* name) {
    const TextView names[] = {name};
    Json found[1];
    object.members(names, found);
    return found[0];
}
std::string characters(std::string_view literal) {
    Array<char> to;
    const auto json = Json::parse(literal);
    REQUIRE(json);
    REQUIRE(json->append_to(to));
    return {to.data(), to.size()};
}

}  // namespace

TEST_CASE("what RFC 8259 allows is read, and nothing else") {
    for (const char* good :
         {"{}", "[]", " { } ", "\t[\n]\r", "null", "true", "false", "0", "-0", "10", "-1.5e+10", "1E2", "0.0", "\"\"",
          R"("\"\\\/\b\f\n\r\t\u00e9")", R"({"a":1,"b":[1,2,{"c":null}],"a":2})", "[1 , 2]", "{\"a\" : 1 , \"b\" : 2}", "\"\xc3\xa9\""}) {
        CAPTURE(good);
        CHECK(valid(good));
    }
    for (const char* bad : {"",          " ",           "{",        "}",       "[",    "]",     "[1,]",      "[,1]", "{,}",    "{\"a\"}",
                            "{\"a\":}",  "{\"a\":1,}",  "{a:1}",    "{'a':1}", "nul",  "nulls", "tru",       "True", "01",     "1.",
                            ".5",        "-",           "+1",       "1e",      "1e+",  "0x1",   "NaN",       "\"",   "\"\\\"", R"("\x")",
                            R"("\u12")", R"("\u12g4")", "\"a\nb\"", "1 2",     "{}{}", "[1}",   "{\"a\":1]", "//",   "\"a\"b"}) {
        CAPTURE(bad);
        CHECK_FALSE(valid(bad));
    }
    CHECK_FALSE(valid(std::string_view("\"a\0b\"", 5)));
}

TEST_CASE("it may be nested 32 deep") {
    CHECK(valid(std::string(31, '[') + "1" + std::string(31, ']')));
    CHECK_FALSE(valid(std::string(32, '[') + "1" + std::string(32, ']')));
    CHECK_FALSE(valid(std::string(1'000'000, '[')));
}

TEST_CASE("members are found by name, the first of that name") {
    const std::string line = R"( {"a": 1, "bb" :{"a":2,"c":"}"}, "d":[{"a":3}], "a":4, "e" : "x" } )";
    const auto json = Json::parse(line);
    REQUIRE(json);
    CHECK(text(member(*json, "a")) == "1");
    CHECK(text(member(member(*json, "bb"), "a")) == "2");
    CHECK(text(member(member(*json, "bb"), "c")) == "\"}\"");
    CHECK(member(*json, "e").is("x"));
    CHECK_FALSE(member(*json, "c"));
    CHECK_FALSE(member(*json, "b"));
    CHECK_FALSE(member(member(*json, "d"), "a"));
    CHECK_FALSE(member(member(*json, "none"), "none"));
    CHECK_FALSE(member(Json(), "a"));

    const TextView names[] = {"e", "none", "a"};
    Json found[3];
    json->members(names, found);
    CHECK(found[0].is("x"));
    CHECK_FALSE(found[1]);
    CHECK(text(found[2]) == "1");
}

TEST_CASE("in a long string nothing is overlooked, wherever it stands") {
    for (std::size_t size : {16u, 17u, 31u, 40u, 100u})
        for (std::size_t at = 0; at < size; ++at) {
            CAPTURE(size, at);
            const auto with = [&](char c) {
                std::string literal = '"' + std::string(size, 'A') + '"';
                literal[at + 1] = c;
                return literal;
            };
            for (char fine : {' ', '!', '#', '[', ']', '\x7f', '\x80', '\xff', '\xa2', '\xdc', '\x9f'}) CHECK(valid(with(fine)));
            for (char wrong : {'\0', '\n', '\x1f', '\x01', '"', '\\'}) CHECK_FALSE(valid(with(wrong)));
            std::string escaped = with('\\');
            escaped[at + 2] = at + 1 < size ? '"' : '\\';
            CHECK(valid(at + 1 < size ? escaped : escaped + '"'));
        }
}

TEST_CASE("numbers are whole, and of 64 bits") {
    const auto number = [](std::string_view t) { return Json::parse(t)->number(); };
    CHECK(*number("0") == 0);
    CHECK(*number("18446744073709551615") == UINT64_MAX);
    for (const char* bad : {"18446744073709551616", "99999999999999999999", "-1", "1.0", "1e3", "\"1\"", "true", "[]"}) {
        CAPTURE(bad);
        CHECK(number(bad).error() == Errc::malformed);
    }
    CHECK_FALSE(Json().number());
}

TEST_CASE("strings are unescaped into UTF-8, and back") {
    CHECK(characters(R"("a\"\\\/\b\f\n\r\tz")") == "a\"\\/\b\f\n\r\tz");
    CHECK(characters(R"("\u0041\u00e9\u20AC")") == "A\xc3\xa9\xe2\x82\xac");
    CHECK(characters(R"("\ud83d\ude00!")") == "\xf0\x9f\x98\x80!");
    CHECK(characters(R"("\uD800\uDC00\udbff\udfff")") == "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf");
    for (const char* half :
         {R"("\ud83d")", R"("\ude00")", R"("\ud83d!aaaaaaa")", R"("\ud83d\n12345")", R"("\ud83d\u0041")", R"("\ud83d\ud83d")"}) {
        CAPTURE(half);
        Array<char> to;
        const auto json = Json::parse(half);
        REQUIRE(json);
        CHECK(json->append_to(to).error() == Errc::malformed);
    }
    Array<char> to;
    CHECK(Json().append_to(to).error() == Errc::malformed);
    CHECK(Json::parse("1")->append_to(to).error() == Errc::malformed);

    std::string every;
    for (int c = 0; c < 128; ++c) every += static_cast<char>(c);
    every += "\xc3\xa9";
    Array<char> quoted;
    REQUIRE(handoff::append_json_string(quoted, every));
    CHECK(characters({quoted.data(), quoted.size()}) == every);
}
