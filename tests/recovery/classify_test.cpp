// SPDX-License-Identifier: BSL-1.0

#include <climits>
#include <rejoin/recovery/classify.hpp>
#include <set>
#include <string>

#include "catch.hpp"
#include "os/system.hpp"

using rejoin::classify;
using rejoin::Errc;
using rejoin::Error;
using rejoin::Failure;
using rejoin::Stage;
using Kind = rejoin::FailureKind;

namespace {

constexpr Stage stages[] = {Stage::resolving, Stage::connecting, Stage::handshaking, Stage::resuming, Stage::established, Stage::listening};

struct Row {
    int code;
    Kind kind;
};

}  // namespace

#if !defined(_WIN32)
TEST_CASE("The system's errors mean what the catalogue says, by this system's own numbers") {
    static constexpr Row rows[] = {
        {EPERM, Kind::forbidden},
        {EINTR, Kind::reset},
        {ENOMEM, Kind::exhausted},
        {EACCES, Kind::no_route},
        {ENODEV, Kind::no_route},
        {EINVAL, Kind::no_route},
        {ENFILE, Kind::exhausted},
        {EMFILE, Kind::exhausted},
        {EPIPE, Kind::reset},
        {EPROTO, Kind::reset},
        {ENETDOWN, Kind::no_route},
        {ENOPROTOOPT, Kind::unreachable},
        {EAFNOSUPPORT, Kind::no_route},
        {ENETRESET, Kind::reset},
        {EADDRNOTAVAIL, Kind::address_unavailable},
        {ENETUNREACH, Kind::no_route},
        {ECONNABORTED, Kind::reset},
        {EADDRINUSE, Kind::exhausted},
        {ECONNRESET, Kind::reset},
        {ENOBUFS, Kind::exhausted},
        {ENOTCONN, Kind::reset},
        {ETIMEDOUT, Kind::timed_out},
        {EHOSTDOWN, Kind::unreachable},
        {ECONNREFUSED, Kind::refused},
        {EHOSTUNREACH, Kind::unreachable},
    };
    for (const Row& row : rows) {
        CAPTURE(row.code);
        CHECK(classify(Error::system(row.code), Stage::connecting).kind == row.kind);
    }
    CHECK(std::size(rows) == std::size(rejoin::detail::system_errors));
}
#else
TEST_CASE("The system's errors mean what the catalogue says, by this system's own numbers") {
    static constexpr Row rows[] = {
        {WSAEINTR, Kind::reset},
        {WSAEACCES, Kind::forbidden},
        {WSAEMFILE, Kind::exhausted},
        {WSAENOPROTOOPT, Kind::unreachable},
        {WSAEAFNOSUPPORT, Kind::no_route},
        {WSAEADDRINUSE, Kind::exhausted},
        {WSAEADDRNOTAVAIL, Kind::address_unavailable},
        {WSAENETDOWN, Kind::no_route},
        {WSAENETUNREACH, Kind::no_route},
        {WSAENETRESET, Kind::reset},
        {WSAECONNABORTED, Kind::reset},
        {WSAECONNRESET, Kind::reset},
        {WSAENOBUFS, Kind::exhausted},
        {WSAENOTCONN, Kind::reset},
        {WSAESHUTDOWN, Kind::reset},
        {WSAETIMEDOUT, Kind::timed_out},
        {WSAECONNREFUSED, Kind::refused},
        {WSAEHOSTDOWN, Kind::unreachable},
        {WSAEHOSTUNREACH, Kind::unreachable},
        {WSAEPROCLIM, Kind::exhausted},
        {WSASYSNOTREADY, Kind::no_route},
        {ERROR_NOT_ENOUGH_MEMORY, Kind::exhausted},
        {ERROR_OUTOFMEMORY, Kind::exhausted},
    };
    for (const Row& row : rows) CHECK(classify(Error::system(row.code), Stage::connecting).kind == row.kind);
    CHECK(std::size(rows) == std::size(rejoin::detail::system_errors));
}
#endif

TEST_CASE("The resolver's errors mean what the catalogue says, by this system's own numbers") {
    static constexpr Row rows[] = {
#if defined(_WIN32)
        {WSAHOST_NOT_FOUND, Kind::name_unknown},
        {WSATRY_AGAIN, Kind::name_service},
        {WSANO_RECOVERY, Kind::name_service},
        {WSANO_DATA, Kind::name_unknown},
        {WSA_NOT_ENOUGH_MEMORY, Kind::exhausted},
#else
        {EAI_NONAME, Kind::name_unknown},
        {EAI_AGAIN, Kind::name_service},
        {EAI_FAIL, Kind::name_service},
        {EAI_MEMORY, Kind::exhausted},
#if defined(EAI_NODATA)
        {EAI_NODATA, Kind::name_unknown},
#endif
#if defined(EAI_ADDRFAMILY)
        {EAI_ADDRFAMILY, Kind::name_unknown},
#endif
#endif
    };
    for (const Row& row : rows) {
        CAPTURE(row.code);
        CHECK(classify(Error::resolver(row.code), Stage::resolving).kind == row.kind);
    }
    CHECK(std::size(rows) == std::size(rejoin::detail::resolver_errors));
    CHECK(classify(Error::resolver(4711), Stage::resolving).kind == Kind::other);
}

TEST_CASE("The library's own errors have a kind each") {
    static constexpr struct {
        Errc code;
        Kind kind;
    } rows[] = {
        {Errc::ok, Kind::none},
        {Errc::would_block, Kind::invalid},
        {Errc::invalid_argument, Kind::invalid},
        {Errc::invalid_state, Kind::invalid},
        {Errc::out_of_memory, Kind::exhausted},
        {Errc::too_large, Kind::invalid},
        {Errc::unsupported, Kind::invalid},
        {Errc::timed_out, Kind::timed_out},
        {Errc::cancelled, Kind::cancelled},
        {Errc::malformed, Kind::protocol},
        {Errc::version_mismatch, Kind::protocol},
        {Errc::proof_invalid, Kind::protocol},
        {Errc::session_unknown, Kind::session_unknown},
        {Errc::session_limit, Kind::session_refused},
        {Errc::session_aborted, Kind::session_aborted},
        {Errc::session_fenced, Kind::fenced},
        {Errc::session_expired, Kind::session_expired},
        {Errc::unresponsive, Kind::unresponsive},
        {Errc::address_lost, Kind::address_lost},
        {Errc::end_of_stream, Kind::ended},
    };
    for (const auto& row : rows) CHECK(classify(row.code, Stage::established) == Failure{row.kind, Stage::established, row.code});
    CHECK(std::size(rows) == static_cast<std::size_t>(Errc::end_of_stream) + 1);
}

TEST_CASE("Every code of every domain has a kind, and keeps its code and stage") {
    const auto check = [](Error error) {
        for (Stage stage : stages) {
            const Failure failure = classify(error, stage);
            REQUIRE(failure.error == error);
            REQUIRE(failure.stage == stage);
            REQUIRE(static_cast<bool>(failure) == static_cast<bool>(error));
        }
    };
    for (int number = -200; number <= 12'000; ++number) {
        check(Error::system(number));
        check(Error::resolver(number));
        check(static_cast<Errc>(number));
    }
    for (int number : {INT_MIN, INT_MAX}) {
        check(Error::system(number));
        check(Error::resolver(number));
        check(static_cast<Errc>(number));
    }
    CHECK(classify(Error::system(200), Stage::connecting).kind == Kind::other);
    CHECK(classify(static_cast<Errc>(200), Stage::connecting).kind == Kind::other);
}

TEST_CASE("The domain tells codes of the same number apart") {
    CHECK(classify(Error::system(code::refused), Stage::established).kind == Kind::refused);
    CHECK(classify(Error::resolver(code::refused), Stage::established).kind == Kind::other);
    CHECK(classify(Error::resolver(1), Stage::established).kind == Kind::other);
    CHECK(classify(static_cast<Errc>(1), Stage::established).kind == Kind::invalid);
}

TEST_CASE("A failure is described by kind and stage, with the system's own code") {
    std::set<std::string> seen;
    for (int kind = 0; kind <= static_cast<int>(Kind::other); ++kind)
        for (Stage stage : stages) seen.insert(describe(Failure{static_cast<Kind>(kind), stage, {}}).c_str());
    CHECK(seen.size() == 1 + static_cast<std::size_t>(Kind::other) * std::size(stages));
    for (const std::string& text : seen) CHECK((text.back() == ')' || text == "no failure"));  // none is cut off
    CHECK(std::string(describe(classify(Error::system(code::refused), Stage::connecting)).c_str()) ==
          "connection refused: nothing listens there (while connecting, system error " + std::to_string(code::refused) + ")");
#if defined(__linux__)
    CHECK(std::string(describe(classify(Error::resolver(EAI_AGAIN), Stage::resolving)).c_str()) ==
          "the name service does not answer (while resolving the name, resolver error -3)");
#endif
    CHECK(std::string(describe(classify(Errc::session_unknown, Stage::resuming)).c_str()) ==
          "the peer does not know the session: it was restarted, or the session expired there (while resuming)");
    CHECK(std::string(describe(Failure{}).c_str()) == "no failure");
}
