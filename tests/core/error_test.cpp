// SPDX-License-Identifier: BSL-1.0
#include <errno.h>

#include <memory>
#include <rejoin/core/error.hpp>
#include <string>

#include "catch.hpp"

using rejoin::Errc;
using rejoin::Error;
using rejoin::Result;

TEST_CASE("Error keeps the code and whose code it is") {
    CHECK_FALSE(Error());
    CHECK_FALSE(Error(Errc::ok));
    CHECK(Error(Errc::ok) == Error());
    CHECK(Error(Errc::timed_out));
    CHECK(Error(Errc::timed_out).domain() == Error::Domain::rejoin);
    CHECK(Error::system(ECONNRESET).code() == ECONNRESET);
    CHECK(Error::system(ECONNRESET).domain() == Error::Domain::system);
    CHECK(Error::resolver(-2).code() == -2);
    CHECK(Error::resolver(-2));
    CHECK(Error::system(2) != Error::resolver(2));
    CHECK(Error::system(2) != Error(static_cast<Errc>(2)));
    STATIC_REQUIRE(std::is_trivially_copyable_v<Error>);
}

namespace {

// Counts what lives, and says whether it was moved from.
struct Tracked {
    static inline int alive = 0;
    int value;
    explicit Tracked(int v) : value(v) { ++alive; }
    Tracked(Tracked&& other) noexcept : value(std::exchange(other.value, -1)) { ++alive; }
    ~Tracked() { --alive; }
};

}  // namespace

TEST_CASE("Result holds a value or an error") {
    SECTION("a value") {
        Result<int> r = 5;
        REQUIRE(r);
        CHECK(*r == 5);
        CHECK(r.error() == Error());
        *r = 6;
        CHECK(*std::as_const(r) == 6);
    }
    SECTION("an error") {
        const Result<int> r = Errc::too_large;
        REQUIRE_FALSE(r);
        CHECK(r.error() == Errc::too_large);
        const Result<int> s = Error::system(EPIPE);
        CHECK(s.error() == Error::system(EPIPE));
    }
    SECTION("no value needs to be copied") {
        Result<std::unique_ptr<int>> r = std::make_unique<int>(7);
        REQUIRE(r);
        CHECK(**r == 7);
        const std::unique_ptr<int> taken = *std::move(r);
        CHECK(*taken == 7);
        CHECK(r);  // still a value: an empty pointer
        CHECK(*r == nullptr);
    }
    SECTION("members through ->") {
        Result<std::string> r = std::string("abc");
        CHECK(r->size() == 3);
        CHECK(std::as_const(r)->size() == 3);
    }
    SECTION("nothing or an error") {
        CHECK(Result<void>());
        const Result<void> failed = Errc::invalid_state;
        CHECK_FALSE(failed);
        CHECK(failed.error() == Errc::invalid_state);
        STATIC_REQUIRE(sizeof(Result<void>) == sizeof(Error));
    }
}

TEST_CASE("Result moves, and destroys each value once") {
    Tracked::alive = 0;
    {
        Result<Tracked> value = Tracked(1);
        CHECK(Tracked::alive == 1);
        Result<Tracked> moved = std::move(value);
        CHECK(Tracked::alive == 2);  // the source holds what moving left there
        CHECK(moved->value == 1);
        CHECK(value->value == -1);

        Result<Tracked> error = Errc::cancelled;
        error = std::move(moved);  // an error becomes a value
        REQUIRE(error);
        CHECK(error->value == 1);
        CHECK(Tracked::alive == 3);
        error = Result<Tracked>(Errc::malformed);  // and a value an error
        CHECK(error.error() == Errc::malformed);
        CHECK(Tracked::alive == 2);
        error = Result<Tracked>(Tracked(2));
        error = Result<Tracked>(Tracked(3));  // a value another value
        CHECK(error->value == 3);
        CHECK(Tracked::alive == 3);

        Result<Tracked>& itself = error;
        error = std::move(itself);
        CHECK(error->value == 3);
    }
    CHECK(Tracked::alive == 0);
}
