// SPDX-License-Identifier: BSL-1.0
#include <rejoin/signalling/envelope.hpp>

#include "catch.hpp"
#include "session/bytes.hpp"

using namespace rejoin;
using signalling::Envelope;
using signalling::Receipt;

namespace {

Digest key_of(unsigned char fill) {
    Digest key;
    std::memset(key.bytes, fill, sizeof key.bytes);
    return key;
}
test::Buffer written(const Envelope& e, TextView to = "bob", const Digest& key = key_of(7)) {
    test::Buffer bytes(e.size());
    write(bytes.data(), e, to, key);
    return bytes;
}
// The one that the tests are about.
Envelope message() {
    Envelope e;
    e.ordered = true;
    e.via = 2;
    e.stream = 0x0102030405060708;
    e.time = 1'700'000'000'000;
    e.valid = 30'000;
    e.number = 5;
    e.base = 4;
    e.after = 3;
    e.from = "alice";
    e.payload = TextView("hi").bytes();
    return e;
}
const char* const bytes_of_it =
    "01 01 01 02 0102030405060708 0000018bcfe56800 00007530 0000000000000005 0000000000000004 0000000000000003 05 616c696365 6869";

}  // namespace

TEST_CASE("an envelope is written and read, byte for byte") {
    CHECK(test::to_hex(written(message())) == test::hex(bytes_of_it));
    const test::Buffer bytes = test::from_hex(bytes_of_it);
    const auto e = signalling::read_envelope(bytes);
    REQUIRE(e);
    CHECK(e->kind == Envelope::Kind::message);
    CHECK(e->ordered);
    CHECK_FALSE(e->again);
    CHECK_FALSE(e->sealed);
    CHECK(e->via == 2);
    CHECK(e->stream == 0x0102030405060708);
    CHECK(e->time == 1'700'000'000'000);
    CHECK(e->valid == 30'000);
    CHECK(e->number == 5);
    CHECK(e->base == 4);
    CHECK(e->after == 3);
    CHECK(e->from == TextView("alice"));
    CHECK(test::to_hex(e->payload) == "6869");
}

TEST_CASE("a seal is HMAC-SHA-256 over the receiver's name and everything else") {
    Envelope e = message();
    e.sealed = true;
    const test::Buffer bytes = written(e);
    // python3: hmac.new(bytes([7])*32, b'rejoin signalling 1' + b'\x03bob' + <all before the seal>, 'sha256')
    CHECK(test::to_hex(Bytes(bytes).last(32)) == "08416bff34825f9df89e78a2721c517a3656b5a1532f72d1cc39291591907b53");
    CHECK(signalling::genuine(bytes, "bob", key_of(7)));
    CHECK_FALSE(signalling::genuine(bytes, "bob", key_of(8)));
    CHECK_FALSE(signalling::genuine(bytes, "bobby", key_of(7)));
    const auto read = signalling::read_envelope(bytes);
    REQUIRE(read);
    CHECK(read->sealed);
    CHECK(test::to_hex(read->payload) == "6869");
    for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
        test::Buffer changed = bytes;
        changed[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
        REQUIRE_FALSE(signalling::genuine(changed, "bob", key_of(7)));
    }
}

TEST_CASE("what is no envelope is refused") {
    const test::Buffer good = test::from_hex(bytes_of_it);
    for (std::size_t n = 0; n < 49 + 5; ++n) REQUIRE(signalling::read_envelope(Bytes(good).first(n)).error() == Errc::malformed);
    CHECK(signalling::read_envelope(Bytes(good).first(54)));  // no payload is a payload
    const auto with = [&](std::size_t at, unsigned value) {
        test::Buffer bytes = good;
        bytes[at] = static_cast<std::byte>(value);
        return signalling::read_envelope(bytes).error();
    };
    CHECK(with(0, 0) == Errc::version_mismatch);
    CHECK(with(0, 2) == Errc::version_mismatch);
    CHECK(with(1, 0) == Errc::malformed);  // a kind that is not known
    CHECK(with(1, 3) == Errc::malformed);
    CHECK(with(2, 8) == Errc::malformed);      // a flag that is not known
    CHECK(with(2, 4) == Errc::malformed);      // sealed, without room for a seal
    CHECK(with(12, 0x80) == Errc::malformed);  // before 1970
    CHECK(with(31, 0) == Errc::malformed);     // message 0
    CHECK(with(39, 0) == Errc::malformed);     // base 0
    CHECK(with(39, 6) == Errc::malformed);     // base beyond the message
    CHECK(with(47, 5) == Errc::malformed);     // after itself
    CHECK(with(48, 0) == Errc::malformed);     // from nobody
    CHECK(with(48, 8) == Errc::malformed);     // a name longer than the envelope
    CHECK(with(48, 200) == Errc::malformed);
    CHECK(with(1, 2) == Error());  // whose numbers may be anything
}

TEST_CASE("a receipt is written and read") {
    Receipt receipt;
    receipt.via = 1;
    receipt.brokers = 2;
    receipt.copies[0] = 3;
    receipt.copies[1] = 0x01020304;
    const test::Buffer done = test::from_hex("05 80");
    receipt.done = done;
    test::Buffer bytes(receipt.size());
    receipt.write(bytes.data());
    CHECK(test::to_hex(bytes) == test::hex("01 02 00000003 01020304 0580"));
    Receipt read;
    REQUIRE(Receipt::read(bytes, read));
    CHECK(read.via == 1);
    CHECK(read.brokers == 2);
    CHECK(read.copies[1] == 0x01020304);
    CHECK(read.copies[2] == 0);
    CHECK(test::to_hex(read.done) == "0580");
    for (std::size_t n = 0; n < 10; ++n) REQUIRE_FALSE(Receipt::read(Bytes(bytes).first(n), read));
    bytes[0] = std::byte{32};
    CHECK_FALSE(Receipt::read(bytes, read));
    bytes[0] = std::byte{0};
    bytes[1] = std::byte{33};
    bytes.resize(400);
    CHECK_FALSE(Receipt::read(bytes, read));
}
