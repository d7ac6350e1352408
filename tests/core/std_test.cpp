// SPDX-License-Identifier: BSL-1.0
#include <errno.h>
#if defined(_WIN32)
#include <winsock2.h>
#include <ws2tcpip.h>
#else
#include <netdb.h>
#include <time.h>
#endif

#include <rejoin/core/address.hpp>
#include <rejoin/std.hpp>
#include <set>

#include "catch.hpp"

using namespace std::chrono_literals;
using rejoin::Duration;
using rejoin::Errc;
using rejoin::Error;
using rejoin::TimePoint;

TEST_CASE("Durations and moments go to chrono and back") {
    CHECK(to_chrono(Duration::milliseconds(-5)) == -5ms);
    CHECK(Duration(to_chrono(Duration::unlimited())) == Duration::unlimited());
    STATIC_REQUIRE(to_chrono(Duration::seconds(2)) == 2s);

    const TimePoint moment = TimePoint::from_nanoseconds(123'456'789);
    CHECK(to_chrono(moment).time_since_epoch() == 123'456'789ns);
    CHECK(rejoin::from_chrono(to_chrono(moment)) == moment);
    CHECK(to_chrono(TimePoint::never()) == std::chrono::steady_clock::time_point::max());
    CHECK(rejoin::from_chrono(std::chrono::steady_clock::time_point::max()) == TimePoint::never());
}

#if defined(__linux__)
TEST_CASE("The steady clock and ours count from the same start") {
    timespec now{};
    const auto before = std::chrono::steady_clock::now();
    REQUIRE(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    const auto after = std::chrono::steady_clock::now();
    const TimePoint ours = TimePoint::from_nanoseconds(std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec);
    CHECK(before <= to_chrono(ours));
    CHECK(to_chrono(ours) <= after);
}
#endif

TEST_CASE("Text and bytes go to std::string") {
    const auto text = to_text(rejoin::Endpoint("::1", 80));
    CHECK(rejoin::to_string(text) == "[::1]:80");
    CHECK(rejoin::to_string_view(text) == "[::1]:80");
    CHECK(rejoin::to_string_view(text).data() == text.data());
    CHECK(rejoin::to_string(rejoin::TextView("a\0b", 3)) == std::string("a\0b", 3));
    CHECK(rejoin::to_string(rejoin::TextView("xyz").bytes()) == "xyz");
    CHECK(rejoin::to_string(rejoin::TextView()).empty());
    CHECK(rejoin::to_string(rejoin::Bytes()).empty());
}

TEST_CASE("Errors go to std::error_code") {
    SECTION("the system's keep their code, category and words") {
        const std::error_code code = to_error_code(Error::system(ENOENT));  // which has one number everywhere
        CHECK(code == std::errc::no_such_file_or_directory);
        CHECK(code.value() == ENOENT);
        CHECK(code.category() == std::system_category());
        CHECK(code.message() == std::error_code(ENOENT, std::system_category()).message());
    }
    SECTION("the resolver's have getaddrinfo's words") {
        const std::error_code code = to_error_code(Error::resolver(EAI_NONAME));
        CHECK(code.value() == EAI_NONAME);
        CHECK(std::string(code.category().name()) == "resolver");
#if !defined(_WIN32)
        CHECK(code.message() == gai_strerror(EAI_NONAME));
#endif
    }
    SECTION("rejoin's compare with Errc and with std::errc") {
        const std::error_code code = to_error_code(Errc::timed_out);
        CHECK(code == Errc::timed_out);
        CHECK(code != Errc::cancelled);
        CHECK(code == std::errc::timed_out);
        CHECK(std::string(code.category().name()) == "rejoin");
        CHECK(to_error_code(Errc::would_block) == std::errc::operation_would_block);
        CHECK(to_error_code(Errc::invalid_argument) == std::errc::invalid_argument);
        CHECK(to_error_code(Errc::out_of_memory) == std::errc::not_enough_memory);
        CHECK(to_error_code(Errc::too_large) == std::errc::message_size);
        CHECK(to_error_code(Errc::unsupported) == std::errc::not_supported);
        CHECK(to_error_code(Errc::cancelled) == std::errc::operation_canceled);
        CHECK(to_error_code(Errc::malformed) == std::errc::protocol_error);
        CHECK(to_error_code(Errc::session_unknown) != std::errc::protocol_error);
        const std::error_code implicit = Errc::session_fenced;
        CHECK(implicit == to_error_code(Errc::session_fenced));
    }
    SECTION("no error is none") {
        CHECK_FALSE(to_error_code(Error()));
        CHECK(to_error_code(Error()).message() == "no error");
    }
    SECTION("each of rejoin's has words of its own, in the order of the codes") {
        std::set<std::string> all;
        const int count = static_cast<int>(Errc::redirected) + 1;
        for (int i = 0; i < count; ++i) all.insert(rejoin::rejoin_category().message(i));
        CHECK(all.size() == static_cast<std::size_t>(count));
        CHECK(to_error_code(Errc::timed_out).message() == "timed out");
        CHECK(to_error_code(Errc::session_unknown).message() == "the peer does not know the session");
        CHECK(to_error_code(Errc::end_of_stream).message() == "the connection ended too early");
        CHECK(rejoin::rejoin_category().message(count) == "rejoin error " + std::to_string(count));
        CHECK(rejoin::rejoin_category().message(-1) == "rejoin error -1");
    }
}
