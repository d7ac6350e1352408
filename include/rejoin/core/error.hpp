// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <new>
#include <rejoin/core/version.hpp>
#include <utility>

namespace rejoin::inline v0_1 {

/// The errors that are rejoin's own. Whatever the system says is kept as the system's code instead (`Error::Domain::system`).
enum class Errc : std::int32_t {
    ok = 0,
    would_block,       ///< a buffer is full; `on_drained` says when to go on
    invalid_argument,  ///< an argument or option is outside what its documentation allows
    invalid_state,     ///< the call makes no sense in the object's present state
    out_of_memory,     ///< an allocation failed; nothing was changed
    too_large,         ///< larger than a stated bound
    unsupported,       ///< this policy or system cannot do that
    timed_out,         ///< a deadline of rejoin's own passed
    cancelled,         ///< called off by the program
    malformed,         ///< bytes that the protocol does not allow
    version_mismatch,  ///< the peer speaks another version of the session protocol
    proof_invalid,     ///< the peer does not hold the session's key
    session_unknown,   ///< the peer does not know the session: it was restarted, or the session expired there
    session_limit,     ///< the peer holds as many sessions as it may
    session_aborted,   ///< the peer ended the session without delivering everything
    session_fenced,    ///< a newer connection of the same session took over
    session_expired,   ///< no connection for longer than the session may be without one
    unresponsive,      ///< nothing was heard for too long, although bytes were on their way
    address_lost,      ///< the local address or interface that the connection used is gone
    end_of_stream,     ///< the connection ended where it should have gone on
    overloaded,        ///< the server asks to come back later
    redirected,        ///< the server sends its clients to another one
};

/// An error: a code and whose code it is. 8 bytes, trivially copyable. No error is `Error{}`, which is false.
class Error {
public:
    enum class Domain : std::uint8_t {
        rejoin,    ///< an `Errc`
        system,    ///< the host's own code: errno, or WSAGetLastError
        resolver,  ///< an EAI_ code of getaddrinfo
    };

    constexpr Error() = default;
    constexpr Error(Errc code) : code_(static_cast<std::int32_t>(code)) {}
    static constexpr Error system(int code) { return Error(code, Domain::system); }
    static constexpr Error resolver(int code) { return Error(code, Domain::resolver); }

    constexpr explicit operator bool() const { return code_ != 0; }
    /// The code as its domain numbers it; 0 is no error in every domain.
    constexpr std::int32_t code() const { return code_; }
    constexpr Domain domain() const { return domain_; }

    friend constexpr bool operator==(const Error&, const Error&) = default;

private:
    constexpr Error(std::int32_t code, Domain domain) : code_(code), domain_(domain) {}
    std::int32_t code_ = 0;
    Domain domain_ = Domain::rejoin;
};
static_assert(sizeof(Error) == 8);

/// A value or the `Error` that stands in its place. Test it before use: `*r` and `r->` without a value are undefined.
template <class T>
class Result {
public:
    Result(T value) : has_value_(true) { ::new (static_cast<void*>(&value_)) T(std::move(value)); }
    Result(Error error) : error_(error), has_value_(false) {}
    Result(Errc error) : Result(Error(error)) {}
    Result(Result&& other) noexcept : has_value_(other.has_value_) {
        if (has_value_)
            ::new (static_cast<void*>(&value_)) T(std::move(other.value_));
        else
            error_ = other.error_;
    }
    Result& operator=(Result&& other) noexcept {
        if (this != &other) {
            this->~Result();
            ::new (static_cast<void*>(this)) Result(std::move(other));
        }
        return *this;
    }
    ~Result() {
        if (has_value_) value_.~T();
    }

    explicit operator bool() const { return has_value_; }
    T& operator*() & { return value_; }
    const T& operator*() const& { return value_; }
    T&& operator*() && { return std::move(value_); }
    T* operator->() { return &value_; }
    const T* operator->() const { return &value_; }
    /// The error, or no error when there is a value.
    Error error() const { return has_value_ ? Error() : error_; }

private:
    union {
        T value_;
        Error error_;
    };
    bool has_value_;
};

/// Success, or the `Error` that stands in its place.
template <>
class Result<void> {
public:
    constexpr Result() = default;
    constexpr Result(Error error) : error_(error) {}
    constexpr Result(Errc error) : error_(error) {}
    constexpr explicit operator bool() const { return !error_; }
    constexpr Error error() const { return error_; }

private:
    Error error_;
};

}  // namespace rejoin::inline v0_1
