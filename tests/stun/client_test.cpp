// SPDX-License-Identifier: BSL-1.0
#include <rejoin/stun/client.hpp>

#include "catch.hpp"
#include "messages.hpp"

using namespace rejoin;
using namespace rejoin::stun;
using State = Transaction::State;
using test::Buffer;
using test::message;
using test::success;

namespace {

constexpr TransactionId id{{std::byte{9}, std::byte{8}, std::byte{7}}}, other_id{{std::byte{9}, std::byte{8}, std::byte{6}}};
const IpAddress external = IpAddress::v4(198, 51, 100, 7);
const Endpoint server("192.0.2.1", 3478);

constexpr TimePoint at(std::int64_t ms) { return TimePoint::from_nanoseconds(1'000'000'000) + Duration::milliseconds(ms); }

Transaction started() {
    Transaction transaction;
    transaction.start(id, server, at(0));
    REQUIRE(transaction.advance(at(0)));
    return transaction;
}

}  // namespace

TEST_CASE("stun: requests go out at the times of RFC 8489 §6.2.1, and then it has failed") {
    Transaction transaction;
    CHECK(transaction.state() == State::idle);
    CHECK(transaction.due() == TimePoint::never());
    CHECK_FALSE(transaction.advance(at(1'000'000)));
    transaction.start(id, server, at(0));
    for (const int ms : {0, 500, 1500, 3500, 7500, 15500, 31500}) {
        CHECK(transaction.due() == at(ms));
        CHECK_FALSE(transaction.advance(at(ms - 1)));
        CHECK(transaction.advance(at(ms)));
        CHECK_FALSE(transaction.advance(at(ms)));
    }
    CHECK(transaction.due() == at(39500));
    CHECK_FALSE(transaction.advance(at(39499)));
    CHECK(transaction.state() == State::running);
    CHECK_FALSE(transaction.advance(at(39500)));
    CHECK(transaction.state() == State::failed);
    CHECK(transaction.error() == Errc::timed_out);
    CHECK(transaction.due() == TimePoint::never());
    // What comes now is late.
    CHECK_FALSE(transaction.receive(server, success(id, external, 5)));
    CHECK(transaction.state() == State::failed);
}

TEST_CASE("stun: a late call makes the pauses no shorter") {
    Transaction transaction;
    transaction.start(id, server, at(0), Duration::milliseconds(10));
    CHECK(transaction.advance(at(1000)));
    CHECK_FALSE(transaction.advance(at(1009)));
    CHECK(transaction.advance(at(1010)));
    CHECK(transaction.due() == at(1030));
}

TEST_CASE("stun: the answer is what the server sees") {
    Transaction transaction = started();
    CHECK(transaction.receive(server, success(id, external, 5)));
    CHECK(transaction.state() == State::answered);
    CHECK(transaction.mapped() == Endpoint(external, 5));
    CHECK_FALSE(transaction.error());
    CHECK(transaction.due() == TimePoint::never());
    CHECK_FALSE(transaction.advance(at(500)));
    // The same again, or another: the transaction is over.
    CHECK_FALSE(transaction.receive(server, success(id, external, 5)));
    CHECK_FALSE(transaction.receive(server, success(id, IpAddress::v4(203, 0, 113, 1), 6)));
    CHECK(transaction.mapped() == Endpoint(external, 5));
}

TEST_CASE("stun: what is not the answer changes nothing") {
    Transaction transaction = started();
    const Buffer good = success(id, external, 5);
    const Buffer error_without_code = message(0x0111, id, {}), success_without_address = message(0x0101, id, {});
    CHECK_FALSE(transaction.receive(Endpoint("192.0.2.1", 3479), good));
    CHECK_FALSE(transaction.receive(Endpoint("192.0.2.2", 3478), good));
    CHECK_FALSE(transaction.receive(server, success(other_id, external, 5)));
    CHECK_FALSE(transaction.receive(server, message(0x0001, id, test::xor_mapped(id, external, 5))));
    CHECK_FALSE(transaction.receive(server, message(0x0011, id, test::xor_mapped(id, external, 5))));
    CHECK_FALSE(transaction.receive(server, error_without_code));
    CHECK_FALSE(transaction.receive(server, success_without_address));
    for (std::size_t size = 0; size < good.size(); ++size) CHECK_FALSE(transaction.receive(server, Bytes(good).first(size)));
    CHECK_FALSE(transaction.receive(server, good, TextView("a key").bytes()));
    CHECK(transaction.state() == State::running);
    CHECK(transaction.due() == at(500));
    CHECK(transaction.receive(server, good));

    Transaction idle;
    CHECK_FALSE(idle.receive(server, good));
    CHECK_FALSE(idle.receive(Endpoint(), success(TransactionId(), external, 5)));
    CHECK(idle.state() == State::idle);
}

TEST_CASE("stun: a refusal ends the transaction, and says why and whom to ask") {
    Transaction transaction = started();
    const IpAddress alternate = IpAddress::v4(192, 0, 2, 9);
    CHECK(transaction.receive(
        server,
        message(0x0111, id, test::join(test::error_attribute(300, "Try Alternate"), test::address_attribute(0x8023, alternate, 7)))));
    CHECK(transaction.state() == State::failed);
    CHECK(transaction.error() == Errc::unsupported);
    CHECK(transaction.error_code() == 300);
    CHECK(transaction.alternate_server() == Endpoint(alternate, 7));
    CHECK_FALSE(transaction.receive(server, success(id, external, 5)));

    // Started again, nothing is left of before.
    transaction.start(other_id, server, at(60'000));
    CHECK(transaction.state() == State::running);
    CHECK(transaction.error_code() == 0);
    CHECK_FALSE(transaction.error());
    CHECK(transaction.advance(at(60'000)));
    CHECK_FALSE(transaction.receive(server, success(id, external, 5)));
    CHECK(transaction.receive(server, success(other_id, external, 5)));
}

TEST_CASE("stun: an answer that cannot be understood ends the transaction") {
    Transaction transaction = started();
    CHECK(transaction.receive(server, message(0x0101, id, test::join(test::xor_mapped(id, external, 5), test::attribute(0x7777, {})))));
    CHECK(transaction.state() == State::failed);
    CHECK(transaction.error() == Errc::unsupported);
    CHECK(transaction.error_code() == 0);
}
