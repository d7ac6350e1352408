// SPDX-License-Identifier: BSL-1.0
#include <rejoin/stun/message.hpp>

#include "catch.hpp"
#include "messages.hpp"

using namespace rejoin;
using namespace rejoin::stun;
using test::address_attribute;
using test::attribute;
using test::Buffer;
using test::bytes;
using test::error_attribute;
using test::from_hex;
using test::join;
using test::message;
using test::to_hex;
using test::xor_mapped;

namespace {

constexpr TransactionId id{{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}, std::byte{5}, std::byte{6}, std::byte{7}, std::byte{8},
                            std::byte{9}, std::byte{10}, std::byte{11}, std::byte{12}}};
const IpAddress v4 = IpAddress::v4(192, 0, 2, 33), v6 = *IpAddress::parse("2001:db8::33");
const Bytes secret = TextView("secret").bytes();

// RFC 5769 §2.2 and §2.3. Their integrity is that of SHA-1, which is not checked here; their FINGERPRINT is.
const Buffer rfc5769_v4 = from_hex(
    "0101003c 2112a442 b7e7a701bc34d686fa87dfae 8022000b 7465737420766563746f7220 00200008 0001a147e112a643"
    "00080014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7 80280004 c07d4c96");
const Buffer rfc5769_v6 = from_hex(
    "01010048 2112a442 b7e7a701bc34d686fa87dfae 8022000b 7465737420766563746f7220"
    "00200014 0002a1470113a9faa5d3f179bc25f4b5bed2b9d9 00080014 a382954e4be67bf11784c97c8292c275bfe3ed41 80280004 c8fb0b4c");
// RFC 8489 §B.1 with its erratum 6268, and the key that its user, realm, password and algorithm make.
const Buffer rfc8489_request = from_hex(
    "00010090 2112a442 78ad3433c6ad72c029da412e 001e0020 4a3cf38fef6992bda952c6780417da0f24819415569e60b205c46e41407f1704"
    "00150029 6f624d61744a6f73324141414366 2f2f3439396b39353464364f4c33346f4c39465354767936347341000000"
    "0014000b 6578616d706c652e6f726700 001d0004 00020000"
    "001c0020 b5c7bf005b6c52a21c51c5e892f81924136296cb927c43149309278cc6518e65");
const Buffer rfc8489_key = from_hex("dd295a613b9058c3c23d6dc7165bda072304d989c9d0af3a8c7e184b4f9bb4a1");
// From here on made with Python's hmac, hashlib and zlib: 192.0.2.33, port 40000, with the key "secret".
const std::string answer_start = "2112a442 0102030405060708090a0b0c 00200008 0001bd52e112a663";
const Buffer answer =
    from_hex("01010038" + answer_start + "001c0020 23c313d85660712491fdff3ced455380752c95e756ec4d451a65711e14846886 80280004 cbefbc1a");
// The same with SOFTWARE "late" and an unknown attribute 7777 between integrity and fingerprint.
const Buffer answer_and_more = from_hex("01010044" + answer_start +
                                        "001c0020 23c313d85660712491fdff3ced455380752c95e756ec4d451a65711e14846886"
                                        "80220004 6c617465 77770000 80280004 874cb131");

Error refused(Bytes datagram, Bytes key = {}) { return decode(datagram, key).error(); }
// A success that is right but for what is added to it.
Error refused_with(const Buffer& attributes) { return refused(message(0x0101, id, join(xor_mapped(id, v4, 40000), attributes))); }
TextView view(const Endpoint& endpoint) {
    static Description text;
    text = to_text(endpoint);
    return text;
}

}  // namespace

TEST_CASE("stun: the responses of RFC 5769") {
    auto four = decode(rfc5769_v4), six = decode(rfc5769_v6);
    REQUIRE(four);
    REQUIRE(six);
    CHECK(four->type == MessageType::success);
    CHECK(to_hex(four->id.bytes) == "b7e7a701bc34d686fa87dfae");
    CHECK(view(four->mapped) == "192.0.2.1:32853");
    CHECK(view(six->mapped) == "[2001:db8:1234:5678:11:2233:4455:6677]:32853");
    CHECK(four->software == "test vector");
    CHECK(four->fingerprint);
    CHECK_FALSE(four->authenticated);
    CHECK(four->error_code == 0);
    CHECK_FALSE(four->alternate_server.valid());
}

TEST_CASE("stun: the request of RFC 5769 has PRIORITY, which is for ICE and has to be understood") {
    CHECK(refused(from_hex("00010058 2112a442 b7e7a701bc34d686fa87dfae 80220010 5354554e207465737420636c69656e74 00240004 6e0001ff"
                           "80290008 932ff9b151263b36 00060009 6576746a3a6836765920202000080014"
                           "9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2 80280004 e57a3bcf")) == Errc::unsupported);
}

TEST_CASE("stun: the request of RFC 8489 is proved by its key, and by no other") {
    auto request = decode(rfc8489_request, rfc8489_key);
    REQUIRE(request);
    CHECK(request->type == MessageType::request);
    CHECK(request->authenticated);
    CHECK_FALSE(request->fingerprint);
    CHECK(decode(rfc8489_request));
    CHECK_FALSE(decode(rfc8489_request)->authenticated);
    CHECK(refused(rfc8489_request, secret) == Errc::proof_invalid);
}

TEST_CASE("stun: a response with integrity and fingerprint") {
    auto response = decode(answer, secret);
    REQUIRE(response);
    CHECK(response->authenticated);
    CHECK(response->fingerprint);
    CHECK(response->id == id);
    CHECK(response->mapped == Endpoint(v4, 40000));
    CHECK(refused(answer, TextView("Secret").bytes()) == Errc::proof_invalid);
    // Who demands integrity is not content with none, nor with that of SHA-1.
    CHECK(refused(test::success(id, v4, 40000), secret) == Errc::proof_invalid);
    CHECK(refused(rfc5769_v4, secret) == Errc::proof_invalid);
}

TEST_CASE("stun: with integrity and fingerprint no bit can be changed") {
    for (std::size_t bit = 0; bit < 8 * answer.size(); ++bit) {
        // But for those that make the fingerprint another attribute, which counts for nothing behind the integrity.
        if (bit / 8 == answer.size() - 8 || bit / 8 == answer.size() - 7) continue;
        Buffer changed = answer;
        changed[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
        CHECK_FALSE(decode(changed, secret));
        CHECK_FALSE(decode(changed));
    }
}

TEST_CASE("stun: what stands behind the integrity counts for nothing, the fingerprint apart") {
    auto response = decode(answer_and_more, secret);
    REQUIRE(response);
    CHECK(response->software.size() == 0);
    CHECK(response->fingerprint);
    const Buffer sha1 = attribute(0x0008, Buffer(20));
    const Buffer behind = join(sha1, join(attribute(0x7777, {}), address_attribute(0x0001, v4, 1)));
    auto older = decode(message(0x0101, id, join(xor_mapped(id, v6, 7), behind)));
    REQUIRE(older);
    CHECK(older->mapped == Endpoint(v6, 7));
    CHECK(refused(message(0x0101, id, behind)) == Errc::malformed);  // the only address stands behind
}

TEST_CASE("stun: addresses of both families, plain and hidden; the hidden one is believed, whatever the order") {
    for (const IpAddress& ip : {v4, v6}) {
        CHECK(decode(message(0x0101, id, xor_mapped(id, ip, 65535)))->mapped == Endpoint(ip, 65535));
        CHECK(decode(message(0x0101, id, address_attribute(0x0001, ip, 1)))->mapped == Endpoint(ip, 1));
        const Buffer plain = address_attribute(0x0001, v4, 9), hidden = xor_mapped(id, ip, 8);
        CHECK(decode(message(0x0101, id, join(plain, hidden)))->mapped == Endpoint(ip, 8));
        CHECK(decode(message(0x0101, id, join(hidden, plain)))->mapped == Endpoint(ip, 8));
    }
}

TEST_CASE("stun: of an attribute that stands twice the first counts") {
    const Buffer datagram = message(0x0111, id,
                                    join(join(join(error_attribute(300, "Try Alternate"), error_attribute(400, "no")),
                                              join(address_attribute(0x8023, v4, 5), address_attribute(0x8023, v6, 6))),
                                         join(join(attribute(0x8022, bytes("one")), attribute(0x8022, bytes("two"))),
                                              join(attribute(0x000a, from_hex("77777778")), attribute(0x000a, from_hex("0001"))))));
    auto twice = decode(datagram);
    REQUIRE(twice);
    CHECK(twice->type == MessageType::error);
    CHECK(twice->error_code == 300);
    CHECK(twice->reason == "Try Alternate");
    CHECK(twice->alternate_server == Endpoint(v4, 5));
    CHECK(twice->software == "one");
    CHECK(to_hex(twice->unknown_attributes) == "77777778");
    const Buffer mapped = join(xor_mapped(id, v4, 5), xor_mapped(id, v6, 6));
    CHECK(decode(message(0x0101, id, mapped))->mapped == Endpoint(v4, 5));
    CHECK(decode(message(0x0101, id, join(attribute(0x8022, {}), join(attribute(0x8022, bytes("two")), mapped))))->software.size() == 0);
}

TEST_CASE("stun: attributes that nobody has to understand, and those of old servers, are passed over") {
    Buffer attributes = attribute(0x8001, bytes("x"));
    for (unsigned type : {0x8003u, 0xffffu, 0x802bu, 0x802cu, 0x0004u, 0x0005u, 0x000bu, 0x0014u, 0x0015u})
        attributes = join(attributes, attribute(type, bytes("anything")));
    CHECK_FALSE(refused_with(attributes));
    for (unsigned type : {0x0000u, 0x0002u, 0x0007u, 0x0024u, 0x7777u, 0x7fffu})
        CHECK(refused_with(attribute(type, bytes("x"))) == Errc::unsupported);
    // One that is malformed as well is so first: then it may not be STUN at all.
    CHECK(refused_with(join(attribute(0x7777, {}), attribute(0x8028, from_hex("00000000")))) == Errc::malformed);
}

TEST_CASE("stun: what is no Binding message is refused") {
    const Buffer good = test::success(id, v4, 40000);
    REQUIRE(decode(good));
    for (std::size_t size = 0; size < good.size(); ++size) CHECK(refused(Bytes(good).first(size)) == Errc::malformed);
    CHECK(refused(join(good, Buffer(4))) == Errc::malformed);
    for (unsigned type : {0x0000u, 0x0002u, 0x0003u, 0x0102u, 0x4101u, 0x8101u, 0xc101u, 0x0121u, 0x0301u})
        CHECK(refused(message(type, id, xor_mapped(id, v4, 1))) == Errc::malformed);
    CHECK(decode(message(0x0011, id, {})));
    CHECK(decode(message(0x0001, id, {}))->id == id);
    Buffer old = good;
    old[4] ^= std::byte{1};  // RFC 3489 had no cookie
    CHECK(refused(old) == Errc::malformed);
    CHECK(refused(message(0x0101, id, {})) == Errc::malformed);
    CHECK(refused(message(0x0111, id, {})) == Errc::malformed);
    CHECK(refused({}) == Errc::malformed);
}

TEST_CASE("stun: attributes that do not fit, or cannot be, are refused") {
    for (const char* wrong : {
             "80220005 61626364",
             "80220001",
             "8022ffff 61626364",
             "8022fffd",  // longer than what is there
             "00010008 0003 0001 c0000221",
             "00010008 0000 0001 c0000221",                           // no such family
             "00010014 0001 0001 c0000221 000000000000000000000000",  // longer and shorter than the family
             "00010008 0002 0001 c0000221",
             "00010003 000100 00",
             "00010000",  //
             "00010008 0001 0000 c0000221",
             "00010008 0001 0001 00000000",  // port 0, address 0.0.0.0
             "80230008 0003 0001 c0000221",  //
             "00090003 000004 00",
             "00090004 00000264",
             "00090004 00000063",  // short, 299 as 2/100, 0/99
             "00090004 00000700",
             "00090004 00000200",
             "00090004 00000464",  // 700, 200, 4/100
             "000a0001 00000000",  // half a number
             "001c0010 00000000000000000000000000000000",
             "001c0000",  // truncated integrity
             "80280003 00000000",
             "80280004 00000000",
             "80280008 0000000000000000"  // fingerprints
         }) {
        INFO(wrong);
        CHECK(refused_with(from_hex(wrong)) == Errc::malformed);
    }
    // A right fingerprint that is not the last, and beside it the same where it is.
    for (const Buffer& behind : {Buffer(), attribute(0x8022, {})}) {
        Buffer start = test::success(id, v4, 40000);
        start[3] = static_cast<std::byte>(start.size() - 20 + 8 + behind.size());
        const Buffer print = attribute(0x8028, test::number(stun::detail::fingerprint(start), 4));
        CHECK(refused(join(join(start, print), behind)) == (behind.empty() ? Error() : Error(Errc::malformed)));
    }
}

TEST_CASE("stun: requests are these bytes") {
    CHECK(to_hex(*encode_request(id, {.fingerprint = false})) == test::hex("00010000 2112a442 0102030405060708090a0b0c"));
    CHECK(to_hex(*encode_request(id)) == test::hex("00010008 2112a442 0102030405060708090a0b0c 80280004 5b20f9cc"));
    const auto whole = encode_request(id, {"rejoin", "user", secret});
    CHECK(to_hex(*whole) == test::hex("00010040 2112a442 0102030405060708090a0b0c 80220006 72656a6f696e0000 00060004 75736572"
                                      "001c0020 ed3959b628ba2954e451c0205e08898e4c9ad9601fa675ecc400edaa599efddd 80280004 1ef0c8b7"));
    auto back = decode(*whole, secret);
    REQUIRE(back);
    CHECK(back->authenticated);
    CHECK(back->fingerprint);
    CHECK(back->software == "rejoin");
    CHECK(back->id == id);
}

TEST_CASE("stun: a request that does not fit is refused whole, whatever it is that is too much") {
    for (std::size_t size = 0; size < 600; ++size) {
        const std::string long_text(size, 'x');
        for (bool key : {false, true})
            for (bool fingerprint : {false, true}) {
                RequestOptions options{long_text, {}, key ? secret : Bytes(), fingerprint};
                const std::size_t whole = 20 + (size == 0 ? 0 : 4 + (size + 3) / 4 * 4) + (key ? 36 : 0) + (fingerprint ? 8 : 0);
                auto request = encode_request(id, options);
                CHECK(request.error() == (whole > 512 ? Error(Errc::too_large) : Error()));
                if (request) CHECK(Bytes(*request).size() == whole);
                if (request) CHECK(decode(*request, options.key));
            }
    }
    const std::string half(300, 'x');
    CHECK(encode_request(id, {half, half}).error() == Errc::too_large);
}
