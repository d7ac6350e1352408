// SPDX-License-Identifier: BSL-1.0
#include <rejoin/session/sha256.hpp>

#include "bytes.hpp"
#include "catch.hpp"

using namespace rejoin;
using test::bytes;
using test::from_hex;
using test::hex;
using test::to_hex;

namespace {

std::string sha256(Bytes input) {
    Sha256 hash;
    hash.update(input);
    return to_hex(hash.finish());
}
std::string hmac(std::string_view key, std::string_view data) {
    const test::Buffer input = from_hex(data);
    const Bytes pieces[] = {input};
    return to_hex(hmac_sha256(from_hex(key), pieces));
}
std::string times(int n, std::string_view byte) {
    std::string out;
    for (int i = 0; i < n; ++i) out += byte;
    return out;
}

}  // namespace

TEST_CASE("SHA-256: the examples of FIPS 180-4") {
    REQUIRE(sha256({}) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    REQUIRE(sha256(bytes("abc")) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    REQUIRE(sha256(bytes("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")) ==
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    REQUIRE(sha256(bytes("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrst"
                         "nopqrstu")) == "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
    REQUIRE(sha256(test::Buffer(1'000'000, std::byte{'a'})) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("SHA-256: every length over the edges of blocks and padding") {
    test::Buffer digests;
    for (std::size_t n = 0; n < 300; ++n) digests = test::join(digests, from_hex(sha256(test::pattern(n))));
    REQUIRE(sha256(digests) == "c57b3d02f09d418d29f855e56dcb623e00f36436ef539ca8a8459bbf577a903c");
}

TEST_CASE("SHA-256: every split gives the same digest") {
    const test::Buffer input = test::pattern(200);
    const std::string whole = sha256(input);
    for (std::size_t a = 0; a <= input.size(); ++a)
        for (std::size_t b = a; b <= input.size(); b += 1 + a % 7) {
            Sha256 hash;
            hash.update(Bytes(input).first(a));
            hash.update(Bytes(input).subspan(a, b - a));
            hash.update(Bytes(input).subspan(b));
            REQUIRE(to_hex(hash.finish()) == whole);
        }
}

TEST_CASE("HMAC-SHA-256: the test cases of RFC 4231") {
    REQUIRE(hmac(times(20, "0b"), "4869205468657265") == "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    REQUIRE(hmac("4a656665", "7768617420646f2079612077616e7420666f72206e6f7468696e673f") ==
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    REQUIRE(hmac(times(20, "aa"), times(50, "dd")) == "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
    REQUIRE(hmac("0102030405060708090a0b0c0d0e0f10111213141516171819", times(50, "cd")) ==
            "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
    REQUIRE(hmac(times(131, "aa"),
                 "54657374205573696e67204c6172676572205468616e20426c6f636b2d53697a65204b6579202d2048617368204b6579204669727374") ==
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    REQUIRE(hmac(times(131, "aa"),
                 "5468697320697320612074657374207573696e672061206c6172676572207468616e20626c6f636b2d73697a65206b657920616e642061206c61"
                 "72676572207468616e20626c6f636b2d73697a6520646174612e20546865206b6579206e6565647320746f20626520686173686564206265666f"
                 "7265206265696e6720757365642062792074686520484d414320616c676f726974686d2e") ==
            "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
}

TEST_CASE("HMAC-SHA-256: the pieces are one message, and a key of a whole block is used as it is") {
    const test::Buffer message = test::pattern(100);
    for (std::size_t n : {63u, 64u, 65u}) {
        const test::Buffer key = test::pattern(n, 5);
        const Bytes whole[] = {message};
        for (std::size_t at = 0; at <= message.size(); ++at) {
            const Bytes pieces[] = {Bytes(message).first(at), {}, Bytes(message).subspan(at)};
            REQUIRE(to_hex(hmac_sha256(key, pieces)) == to_hex(hmac_sha256(key, whole)));
        }
    }
    const Bytes whole[] = {message};
    REQUIRE(to_hex(hmac_sha256(test::pattern(64, 5), whole)) == "6d6b6592663cc66878a1b1de561cda5f3194a0c3fea9c98d597ded26a2e2c5ac");
}

TEST_CASE("two digests are equal only when every bit is") {
    Digest a;
    copy(a.bytes, test::pattern(32));
    REQUIRE(equal_in_constant_time(a, a));
    for (std::size_t bit = 0; bit < 256; ++bit) {
        Digest b = a;
        b.bytes[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
        REQUIRE_FALSE(equal_in_constant_time(a, b));
    }
}
