// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/core/address.hpp>
#include <rejoin/core/bytes.hpp>
#include <rejoin/core/error.hpp>

namespace rejoin::inline v0_1 {

/// How a connection leaves this host, how large its pieces are, and to whom it goes. By default as the system has it.
struct Way {
    IpAddress from;                     ///< the local address; of family none: the system's choice
    std::uint32_t interface_index = 0;  ///< the interface, whatever the routes prefer; 0: the system's choice
    std::uint16_t segment_max = 0;      ///< bytes in one segment or packet at most; 0: what both ends allow
    const char* name = nullptr;         ///< the peer's, as it was asked for, until `open` returns; null: by its number
};

/// Hears what happens on one connection. Every call may destroy the connection; those that return bool say whether it still exists, and
/// the connection touches nothing of itself when it does not.
class ConnectionObserver {
public:
    virtual void on_open() = 0;
    /// `bytes` hold until it returns.
    virtual bool on_bytes(Bytes bytes) = 0;
    /// Called once after `want_writable`.
    virtual bool on_writable() = 0;
    /// The peer ended its sending direction.
    virtual void on_end() = 0;
    virtual void on_error(Error error) = 0;

protected:
    ~ConnectionObserver() = default;
};

namespace detail {

/// Hears for a connection that is nobody's, not yet or no more. It has no state.
struct Nobody final : ConnectionObserver {
    void on_open() override {}
    bool on_bytes(Bytes) override { return true; }
    bool on_writable() override { return true; }
    void on_end() override {}
    void on_error(Error) override {}
    static Nobody& instance() {
        static constinit Nobody nobody;
        return nobody;
    }
};

}  // namespace detail

}  // namespace rejoin::inline v0_1
