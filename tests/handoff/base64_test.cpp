// SPDX-License-Identifier: BSL-1.0
#include <rejoin/handoff/base64.hpp>
#include <string>

#include "catch.hpp"
#include "session/bytes.hpp"

using namespace rejoin;
using namespace test;

namespace {

std::string encoded(Bytes from) {
    Array<char> to;
    REQUIRE(handoff::append_base64(to, from));
    return {to.data(), to.size()};
}
Result<void> decode(std::string_view text, Buffer& to) {
    Array<std::byte> out;
    const auto result = handoff::append_from_base64(out, text);
    to.assign(out.begin(), out.end());
    return result;
}

}  // namespace

TEST_CASE("the vectors of RFC 4648, both ways") {
    const std::pair<const char*, const char*> vectors[] = {
        {"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}};
    for (auto [plain, text] : vectors) {
        CAPTURE(text);
        CHECK(encoded(bytes(plain)) == text);
        Buffer back;
        REQUIRE(decode(text, back));
        CHECK(back == bytes(plain));
    }
}

TEST_CASE("every length comes back") {
    for (std::size_t n = 0; n < 300; ++n) {
        const Buffer from = pattern(n, n * 7);
        Buffer back;
        REQUIRE(decode(encoded(from), back));
        REQUIRE(back == from);
    }
}

TEST_CASE("a slash may be escaped as JSON lets it") {
    Buffer back;
    REQUIRE(decode("\\/\\/\\/\\/", back));
    CHECK(to_hex(back) == "ffffff");
    REQUIRE(decode("\\/w==", back));
    CHECK(to_hex(back) == "ff");
}

TEST_CASE("what is not base64 is malformed") {
    for (const char* text : {"Z", "Zg", "Zg=", "Zm8", "Z===", "=", "====", "Zg===", "Zm9v=", "Zm9v====", "Zg==Zg==", "Zm 8=", "Zm9v\n",
                             "Zm9-", "Zm9_", "\\", "Zm9\\v", "Zg=\\="}) {
        CAPTURE(text);
        Buffer back;
        CHECK(decode(text, back).error() == Errc::malformed);
    }
}

TEST_CASE("it is added behind what there is") {
    Array<std::byte> to;
    REQUIRE(handoff::append_from_base64(to, "Zm9v"));
    REQUIRE(handoff::append_from_base64(to, "Zg=="));
    REQUIRE(handoff::append_from_base64(to, ""));
    CHECK(to_hex({to.data(), to.size()}) == "666f6f66");
}
