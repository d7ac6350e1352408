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
        {EPERM, Kind::forbidden},       {EINTR, Kind::reset},           {ENOMEM, Kind::exhausted},     {EACCES, Kind::no_route},
        {ENODEV, Kind::no_route},       {EINVAL, Kind::no_route},       {ENFILE, Kind::exhausted},     {EMFILE, Kind::exhausted},
        {EPIPE, Kind::reset},           {EPROTO, Kind::reset},          {ENETDOWN, Kind::no_route},    {ENOPROTOOPT, Kind::unreachable},
        {EAFNOSUPPORT, Kind::no_route}, {ENETRESET, Kind::reset},       {ENETUNREACH, Kind::no_route}, {ECONNABORTED, Kind::reset},
        {EADDRINUSE, Kind::exhausted},  {ECONNRESET, Kind::reset},      {ENOBUFS, Kind::exhausted},    {ENOTCONN, Kind::reset},
        {ETIMEDOUT, Kind::timed_out},   {EHOSTDOWN, Kind::unreachable}, {ECONNREFUSED, Kind::refused}, {EHOSTUNREACH, Kind::unreachable},
        {EAGAIN, Kind::exhausted},      {EBADF, Kind::invalid},         {EMSGSIZE, Kind::invalid},     {ECANCELED, Kind::cancelled},
        {ENOENT, Kind::other},          {ENOSPC, Kind::exhausted},      {EPROTOTYPE, Kind::invalid},   {ESHUTDOWN, Kind::reset},
    };
    for (const Row& row : rows) {
        CAPTURE(row.code);
        CHECK(classify(Error::system(row.code), Stage::connecting).kind == row.kind);
    }
}

TEST_CASE("What an error means depends on the stage") {
    const auto kind = [](int code, Stage stage) { return classify(Error::system(code), stage).kind; };
    CHECK(kind(EACCES, Stage::listening) == Kind::forbidden);
    CHECK(kind(EADDRINUSE, Stage::listening) == Kind::address_in_use);
    CHECK(kind(EADDRNOTAVAIL, Stage::listening) == Kind::address_unavailable);
    CHECK(kind(EINVAL, Stage::established) == Kind::invalid);
    CHECK(kind(EPROTOTYPE, Stage::established) == Kind::reset);
}

TEST_CASE("An address that is there and ready has no port left, any other is not there") {
    rejoin::NetworkState network;
    network.known = true;
    rejoin::InterfaceAddress ready{1, rejoin::IpAddress::v4(192, 0, 2, 1), 24}, checked{1, rejoin::IpAddress::v4(192, 0, 2, 2), 24};
    checked.tentative = true;
    REQUIRE(network.put(ready));
    REQUIRE(network.put(checked));
    const auto kind = [&](const rejoin::IpAddress& from, const rejoin::NetworkState* state) {
        return classify(Error::system(EADDRNOTAVAIL), Stage::connecting, {from, state}).kind;
    };
    CHECK(kind({}, nullptr) == Kind::exhausted);
    CHECK(kind({}, &network) == Kind::exhausted);
    CHECK(kind(ready.ip, &network) == Kind::exhausted);
    CHECK(kind(ready.ip, nullptr) == Kind::address_unavailable);
    CHECK(kind(checked.ip, &network) == Kind::address_unavailable);
    CHECK(kind(rejoin::IpAddress::v4(192, 0, 2, 3), &network) == Kind::address_unavailable);
    network.known = false;
    CHECK(kind(ready.ip, &network) == Kind::address_unavailable);
}

TEST_CASE("A neighbour that macOS does not let a program reach is told apart from one that nobody reaches") {
    rejoin::NetworkState network;
    rejoin::InterfaceAddress own;
    own.ip = rejoin::IpAddress::v4(192, 168, 1, 2);
    own.prefix_length = 24;
    own.interface_index = 2;
    REQUIRE(network.put(own));
    rejoin::detail::ErrorTables tables = rejoin::detail::posix_tables;
    tables.local_network_denied = EHOSTUNREACH;
    const rejoin::IpAddress neighbour = rejoin::IpAddress::v4(192, 168, 1, 3), afar = rejoin::IpAddress::v4(192, 0, 2, 1);
    const auto kind = [&](int code, const rejoin::IpAddress& to, Stage stage = Stage::connecting) {
        return rejoin::detail::kind_of(tables, Error::system(code), stage, {{}, &network, to});
    };
    CHECK(kind(EHOSTUNREACH, neighbour) == Kind::forbidden);
    CHECK(kind(EHOSTUNREACH, afar) == Kind::unreachable);
    CHECK(kind(EHOSTUNREACH, {}) == Kind::unreachable);
    CHECK(kind(EHOSTDOWN, neighbour) == Kind::unreachable);
    CHECK(kind(EHOSTUNREACH, neighbour, Stage::established) == Kind::unreachable);
    tables.local_network_denied = 0;
    CHECK(kind(EHOSTUNREACH, neighbour) == Kind::unreachable);
}

#if defined(__GLIBC__)
TEST_CASE("Every errno of this system has its row, and no row stands twice with another kind") {
    for (int code = 1; code < 4096; ++code) {
        CAPTURE(code);
        int rows = 0;
        for (const auto& row : rejoin::detail::posix_errors) rows += row.code == code;
        CHECK((rows != 0) == (strerrorname_np(code) != nullptr));
        for (const auto& row : rejoin::detail::posix_errors)
            if (row.code == code) CHECK(row.kind == classify(Error::system(code), Stage::resolving).kind);
    }
    for (int code = -1; code > -300; --code) {
        CAPTURE(code);
        int rows = 0;
        for (const auto& row : rejoin::detail::posix_resolver_errors) rows += row.code == code;
        CHECK((rows != 0 || gai_strerror(code) == std::string("Unknown error")));
    }
}
#endif

TEST_CASE("The resolver's errors mean what the catalogue says, by this system's own numbers") {
    static constexpr Row rows[] = {
        {EAI_NONAME, Kind::name_unknown},
        {EAI_AGAIN, Kind::name_service},
        {EAI_FAIL, Kind::name_service},
        {EAI_MEMORY, Kind::exhausted},
        {EAI_FAMILY, Kind::invalid},
#if defined(EAI_NODATA)
        {EAI_NODATA, Kind::name_unknown},
#endif
#if defined(EAI_ADDRFAMILY)
        {EAI_ADDRFAMILY, Kind::name_unknown},
#endif
    };
    for (const Row& row : rows) {
        CAPTURE(row.code);
        CHECK(classify(Error::resolver(row.code), Stage::resolving).kind == row.kind);
    }
    CHECK(classify(Error::resolver(4711), Stage::resolving).kind == Kind::other);
}
#endif

TEST_CASE("Windows' errors mean what the catalogue says, on every system") {
    static constexpr struct {
        int code;
        Kind kind;
#if defined(_WIN32)
        int name;
#define CODE(number, name, kind) \
    { number, kind, name }
#else
#define CODE(number, name, kind) \
    { number, kind }
#endif
    } rows[] = {
        CODE(8, ERROR_NOT_ENOUGH_MEMORY, Kind::exhausted),
        CODE(14, ERROR_OUTOFMEMORY, Kind::exhausted),
        CODE(64, ERROR_NETNAME_DELETED, Kind::reset),
        CODE(995, ERROR_OPERATION_ABORTED, Kind::cancelled),
        CODE(1225, ERROR_CONNECTION_REFUSED, Kind::refused),
        CODE(1231, ERROR_NETWORK_UNREACHABLE, Kind::no_route),
        CODE(1232, ERROR_HOST_UNREACHABLE, Kind::unreachable),
        CODE(1236, ERROR_CONNECTION_ABORTED, Kind::reset),
        CODE(10004, WSAEINTR, Kind::reset),
        CODE(10009, WSAEBADF, Kind::invalid),
        CODE(10013, WSAEACCES, Kind::forbidden),
        CODE(10022, WSAEINVAL, Kind::invalid),
        CODE(10024, WSAEMFILE, Kind::exhausted),
        CODE(10040, WSAEMSGSIZE, Kind::invalid),
        CODE(10042, WSAENOPROTOOPT, Kind::unreachable),
        CODE(10047, WSAEAFNOSUPPORT, Kind::no_route),
        CODE(10048, WSAEADDRINUSE, Kind::exhausted),
        CODE(10050, WSAENETDOWN, Kind::no_route),
        CODE(10051, WSAENETUNREACH, Kind::no_route),
        CODE(10052, WSAENETRESET, Kind::reset),
        CODE(10053, WSAECONNABORTED, Kind::reset),
        CODE(10054, WSAECONNRESET, Kind::reset),
        CODE(10055, WSAENOBUFS, Kind::exhausted),
        CODE(10057, WSAENOTCONN, Kind::reset),
        CODE(10058, WSAESHUTDOWN, Kind::reset),
        CODE(10060, WSAETIMEDOUT, Kind::timed_out),
        CODE(10061, WSAECONNREFUSED, Kind::refused),
        CODE(10064, WSAEHOSTDOWN, Kind::unreachable),
        CODE(10065, WSAEHOSTUNREACH, Kind::unreachable),
        CODE(10067, WSAEPROCLIM, Kind::exhausted),
        CODE(10091, WSASYSNOTREADY, Kind::no_route),
        CODE(10093, WSANOTINITIALISED, Kind::invalid),
        CODE(10101, WSAEDISCON, Kind::ended),
        CODE(4711, 4711, Kind::other),
    };
    const auto kind = [](Error error, Stage stage, const rejoin::FailureContext& context = {}) {
        return rejoin::detail::kind_of(rejoin::detail::windows_tables, error, stage, context);
    };
    for (const auto& row : rows) {
        CAPTURE(row.code);
        CHECK(kind(Error::system(row.code), Stage::established) == row.kind);
#if defined(_WIN32)
        CHECK(row.code == row.name);
        CHECK(classify(Error::system(row.code), Stage::established).kind == row.kind);
#endif
    }
    CHECK(kind(Error::system(10048), Stage::listening) == Kind::address_in_use);
    CHECK(kind(Error::system(10013), Stage::listening) == Kind::address_in_use);
    CHECK(kind(Error::system(10049), Stage::connecting) == Kind::exhausted);
    CHECK(kind(Error::system(10049), Stage::connecting, {rejoin::IpAddress::v4(192, 0, 2, 1), nullptr}) == Kind::address_unavailable);
    CHECK(kind(Error::system(10049), Stage::listening) == Kind::address_unavailable);
    CHECK(kind(Error::resolver(11001), Stage::resolving) == Kind::name_unknown);
    CHECK(kind(Error::resolver(11002), Stage::resolving) == Kind::name_service);
    CHECK(kind(Error::resolver(11003), Stage::resolving) == Kind::name_service);
    CHECK(kind(Error::resolver(11004), Stage::resolving) == Kind::name_unknown);
    CHECK(kind(Error::resolver(8), Stage::resolving) == Kind::exhausted);
    // Winsock's own numbers have a row each: what they number is in one piece but for these gaps.
    const auto has_row = [](int code) {
        for (const auto& row : rejoin::detail::windows_errors)
            if (row.code == code) return true;
        for (const auto& row : rejoin::detail::windows_resolver_errors)
            if (row.code == code) return true;
        return false;
    };
    for (int code = 10035; code <= 10071; ++code) CHECK(has_row(code));
    for (int code = 10101; code <= 10112; ++code) CHECK(has_row(code));
    for (int code = 11001; code <= 11031; ++code) CHECK(has_row(code));
    for (int code : {10004, 10009, 10013, 10014, 10022, 10024, 10091, 10092, 10093}) CHECK(has_row(code));
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
        {Errc::overloaded, Kind::overloaded},
        {Errc::redirected, Kind::redirected},
    };
    for (const auto& row : rows) CHECK(classify(row.code, Stage::established) == Failure{row.kind, Stage::established, row.code});
    CHECK(std::size(rows) == static_cast<std::size_t>(Errc::redirected) + 1);
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

TEST_CASE("Every kind says whom it lies with, and what helps") {
    for (int kind = 1; kind < static_cast<int>(Kind::other); ++kind)
        CHECK(Failure{static_cast<Kind>(kind), Stage::established, {}}.origin() != rejoin::Origin::unknown);
    CHECK(Failure{Kind::refused, Stage::connecting, {}}.origin() == rejoin::Origin::peer);
    CHECK(Failure{Kind::no_route, Stage::connecting, {}}.origin() == rejoin::Origin::host);
    CHECK(Failure{Kind::timed_out, Stage::connecting, {}}.origin() == rejoin::Origin::path);
    CHECK(Failure{Kind::timed_out, Stage::handshaking, {}}.origin() == rejoin::Origin::peer);
    CHECK(Failure{Kind::timed_out, Stage::resolving, {}}.origin() == rejoin::Origin::name_service);
    CHECK(Failure{Kind::name_unknown, Stage::resolving, {}}.origin() == rejoin::Origin::name_service);
    CHECK(Failure{Kind::no_route, Stage::connecting, {}}.advice() == std::string("Connect this host to a network."));
    CHECK(Failure{}.advice() == std::string());
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
