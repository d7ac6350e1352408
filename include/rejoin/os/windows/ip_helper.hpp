// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/os/socket_address.hpp>
#include <rejoin/os/windows/poll.hpp>

#if defined(_WIN32)
#include <iphlpapi.h>
#include <netioapi.h>

#include <cstdlib>
#include <new>
#include <utility>
#if defined(_MSC_VER)
#pragma comment(lib, "iphlpapi")
#endif

namespace rejoin::inline v0_1 {

/// Hears that something may have changed in the host's network: from NotifyIpInterfaceChange, NotifyUnicastIpAddressChange and
/// NotifyRouteChange2, and from SIO_ADDRESS_LIST_CHANGE for each family, since none of them tells everything. What they call, on threads
/// of the system's, rings a bell and does nothing else: it takes no lock, so that closing, which waits for it, cannot deadlock. Belongs to
/// the loop's thread.
class NetworkNotice {
public:
    NetworkNotice() = default;
    NetworkNotice(const NetworkNotice&) = delete;
    ~NetworkNotice() { close(); }

    /// An error only when there is no way to hear of anything.
    Error open() {
        context_ = new (std::nothrow) Context;
        if (context_ == nullptr) return Errc::out_of_memory;
        Error error = context_->bell.open();
        if (error) {
            close();
            return error;
        }
        const DWORD refused[] = {
            ::NotifyIpInterfaceChange(
                AF_UNSPEC, [](PVOID to, MIB_IPINTERFACE_ROW*, MIB_NOTIFICATION_TYPE) WINAPI { ring(to); }, &context_->bell, FALSE,
                &notices_[0]),
            ::NotifyUnicastIpAddressChange(
                AF_UNSPEC, [](PVOID to, MIB_UNICASTIPADDRESS_ROW*, MIB_NOTIFICATION_TYPE) WINAPI { ring(to); }, &context_->bell, FALSE,
                &notices_[1]),
            ::NotifyRouteChange2(
                AF_UNSPEC, [](PVOID to, MIB_IPFORWARD_ROW2*, MIB_NOTIFICATION_TYPE) WINAPI { ring(to); }, &context_->bell, FALSE,
                &notices_[2]),
        };
        bool any = false;
        for (int i = 0; i < 3; ++i) {
            if (refused[i] != NO_ERROR) notices_[i] = nullptr;
            any = any || refused[i] == NO_ERROR;
        }
        any = context_->lists[0].open(AF_INET, context_->bell) || any;
        any = context_->lists[1].open(AF_INET6, context_->bell) || any;
        if (any) return {};
        close();
        return Error::system(static_cast<int>(refused[0]));
    }
    /// Readable when something may have changed, until `clear`.
    SOCKET fd() const { return context_->bell.fd(); }
    void clear() {
        context_->bell.clear();
        for (AddressList& list : context_->lists) list.again();
    }

private:
    static void ring(void* bell) { static_cast<detail::Bell*>(bell)->ring(); }

    // SIO_ADDRESS_LIST_CHANGE, which is asked for anew after each change.
    struct AddressList {
        SOCKET socket = INVALID_SOCKET;
        HANDLE event = nullptr, wait = nullptr;
        OVERLAPPED change{};
        bool asked = false;

        bool open(int family, detail::Bell& bell) {
            socket = ::WSASocketW(family, SOCK_DGRAM, 0, nullptr, 0, WSA_FLAG_OVERLAPPED | detail::no_handle_inherit);
            event = ::CreateEventW(nullptr, FALSE, FALSE, nullptr);
            if (socket == INVALID_SOCKET || event == nullptr) return false;
            ask();
            const auto rung = [](PVOID to, BOOLEAN) CALLBACK { ring(to); };
            return asked && ::RegisterWaitForSingleObject(&wait, event, rung, &bell, INFINITE, WT_EXECUTEDEFAULT) != FALSE;
        }
        void ask() {
            change = {};
            change.hEvent = event;
            DWORD size = 0;
            const int done = ::WSAIoctl(socket, SIO_ADDRESS_LIST_CHANGE, nullptr, 0, nullptr, 0, &size, &change, nullptr);
            asked = done == 0 || ::WSAGetLastError() == WSA_IO_PENDING;
        }
        void again() {
            if (asked && HasOverlappedIoCompleted(&change)) ask();
        }
        // False when the system may still use it.
        bool close() {
            bool done = wait == nullptr || ::UnregisterWaitEx(wait, INVALID_HANDLE_VALUE) != FALSE;
            if (socket != INVALID_SOCKET) {
                ::CancelIoEx(reinterpret_cast<HANDLE>(socket), &change);
                ::closesocket(socket);
            }
            if (asked && !HasOverlappedIoCompleted(&change)) done = ::WaitForSingleObject(event, 1000) == WAIT_OBJECT_0 && done;
            if (done && event != nullptr) ::CloseHandle(event);
            return done;
        }
    };
    struct Context {
        detail::Bell bell;
        AddressList lists[2];
    };

    // What cannot be called off may still be called: then what it uses is leaked rather than freed.
    void close() {
        if (context_ == nullptr) return;
        bool done = true;
        for (HANDLE& notice : notices_)
            if (notice != nullptr) done = ::CancelMibChangeNotify2(std::exchange(notice, nullptr)) == NO_ERROR && done;
        for (AddressList& list : context_->lists) done = list.close() && done;
        if (done) delete context_;
        context_ = nullptr;
    }

    Context* context_ = nullptr;
    HANDLE notices_[3] = {};
};

}  // namespace rejoin::inline v0_1
#endif
