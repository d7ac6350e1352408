// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/network/feed.hpp>
#include <rejoin/network/route_doubt.hpp>
#include <rejoin/network/route_message.hpp>
#include <rejoin/network/wake_watch.hpp>

namespace rejoin::inline v0_1 {

/// The event source of macOS, FreeBSD, NetBSD and OpenBSD: one routing socket (route(4)) a loop, however many pipes. A message becomes
/// changes as soon as it is read; then the kernel is asked which routes it takes now, by the same socket, and its answer is one message
/// among the others. Belongs to the loop's thread.
///
/// `System` is what asks the system, and `Dns` knows the name servers (`DnsWatch`):
///
///     static const RouteDialect& dialect(), list_dialect()         of its messages, and of its list
///     Error open(); Handle fd()                                    readable when there is something to receive
///     Result<std::size_t> receive(MutableBytes)                    messages; `would_block`: none; else some were lost
///     Result<void> send(Bytes)                                     a request, or why the kernel refuses it
///     Result<void> list(sink)                                      gives `sink(Bytes)` all interfaces and addresses, as messages
///     Result<std::uint32_t> address_flags(TextView interface_, const IpAddress&)    in6_iff_; called where messages do not have them
///     Text<15> interface_name(std::uint32_t index)                 empty: there is none
///     IpAddress source(const IpAddress& destination)               which local address it would send from
///     std::uint32_t process()                                      how it calls this process in answers
///     void wait(Duration)                                          for something to receive
template <class System, class Dns>
class RouteSocketOf {
public:
    /// Opens the socket and reads the state: `error` says whether that went well. Where the kernel queues its answers (FreeBSD, NetBSD) it
    /// waits for them, up to 20 ms. Use `of`, so that a loop has one.
    explicit RouteSocketOf(Loop& loop)
        : loop_(loop),
          watch_(loop, Delegate<void(Ready)>::to<&RouteSocketOf::hear>(this)),
          timer_(loop, Delegate<void()>::to<&RouteSocketOf::catch_up>(this)),
          feed_(loop),
          dns_(loop, Delegate<void()>::to<&RouteSocketOf::read_dns>(this)),
          wake_(loop, feed_, Delegate<void()>::to<&RouteSocketOf::look>(this)) {
        error_ = system_.open();
        if (!error_) error_ = watch_.start(system_.fd(), Ready::readable).error();
        if (!error_) begin();
    }
    /// The one of this loop, made when first asked for. Lives as long as the loop.
    static RouteSocketOf& of(Loop& loop) { return loop.service<RouteSocketOf>(); }

    /// What is known now; changes only in the loop. While the changes that a message brought are delivered, the routes may still be those
    /// of before: theirs follow with the kernel's answer.
    const NetworkState& state() const { return feed_.state(); }
    /// Tells `observer` of every change from now on, until it is unlinked or destroyed.
    void observe(NetworkObserver& observer) { feed_.observe(observer); }
    /// Why the network cannot be watched, or none; `state().known` is then false for good.
    Error error() const { return error_; }

private:
    // After a message the kernel may not be through with the routes that follow from it; the check of a new IPv6 address takes a second
    // or two (RFC 4862 §5.4), and not every system tells that it is over.
    static constexpr Duration look_again[] = {Duration::milliseconds(1), Duration::milliseconds(10), Duration::milliseconds(100),
                                              Duration::seconds(1), Duration::seconds(2)};
    static constexpr std::size_t looks_at_all = 5, looks_at_routes = 3;
    // However often messages are lost, everything is read again only so often.
    static constexpr Duration between_readings = Duration::milliseconds(100);
    // Reads before the loop gets its turn.
    static constexpr int burst = 64;

    // The routes belong to the first state that is known, so that nothing seems to be gained a moment after the start.
    void begin() {
        NetworkState* const first = feed_.edit();
        if (first == nullptr) {
            lost_ = true;
            timer_.after(between_readings);
            return;
        }
        error_ = read_all(*first).error();
        if (error_) return watch_.stop();
        dns_.read(*first);
        ask(*first);
        for (int waits = 0; waits < 10 && (asked_[0] != 0 || asked_[1] != 0); ++waits) {
            system_.wait(Duration::milliseconds(2));
            receive_all(*first);
        }
        first->known = true;
        feed_.publish();
    }

    void hear(Ready) {
        wake_.look();
        touched_ = false;
        for (int n = 0; n < burst; ++n) {
            NetworkState* const is = feed_.edit();
            if (is == nullptr) lost_ = true;
            if (is == nullptr || !receive(*is)) break;
            if (feed_.publish()) touched_ = true;
        }
        if (!touched_ && !lost_) return;
        looks_ = 0;
        catch_up();
    }
    // macOS drops messages without a word, and none of the systems tells everything: so all is read again from time to time.
    void look() {
        lost_ = true;
        catch_up();
    }

    // Takes in what is waiting; false when there is no more.
    bool receive(NetworkState& state) {
        auto size = system_.receive(buffer_);
        if (!size) {
            if (size.error() == Errc::would_block) return false;
            return lost_ = true;
        }
        auto decoded = decode_route_messages(System::dialect(), {buffer_, *size}, std::endian::native,
                                             [&](const RouteUpdate& update) { apply(update, state); });
        lost_ = lost_ || !decoded;
        return true;
    }
    void receive_all(NetworkState& state) {
        for (int n = 0; n < burst && receive(state); ++n) {
        }
    }

    void apply(const RouteUpdate& update, NetworkState& state) {
        using Kind = RouteUpdate::Kind;
        switch (update.kind) {
            case Kind::interface_is:
                lost_ = !put_interface(update.interface_, state) || lost_;
                break;
            case Kind::interface_gone:
                state.remove_interface(update.interface_.index);
                break;
            case Kind::address_is:
                lost_ = !put_address(update, state) || lost_;
                break;
            case Kind::address_gone:
                state.remove(update.address);
                touched_ = true;  // another one may be the source now, even if `diff` is silent
                break;
            case Kind::routes_touched:
                touched_ = true;
                break;
            case Kind::route_is:
                if (update.process != system_.process()) break;
                for (Family family : {Family::v4, Family::v6})
                    if (update.sequence == asked_[family == Family::v6]) answered(family, update.route, state);
                break;
            case Kind::overrun:
                lost_ = true;
        }
    }
    bool put_interface(Interface interface_, NetworkState& state) {
        if (interface_.name.empty()) {  // most messages have none
            const Interface* const known = state.find_interface(interface_.index);
            interface_.name = known != nullptr ? known->name : system_.interface_name(interface_.index);
            if (interface_.name.empty()) return true;  // it is gone already
            interface_.noise = System::dialect().makes_noise && noise_interface(interface_.name);
        }
        return state.put(interface_);
    }
    bool put_address(const RouteUpdate& update, NetworkState& state) {
        InterfaceAddress address = update.address;
        if (!update.flags_told) read_flags(address, state);
        const InterfaceAddress* const is = state.find_address(address.interface_index, address.ip);
        if (is != nullptr && *is == address) return true;  // routers announce lifetimes again and again
        touched_ = true;
        return state.put(address);
    }
    void read_flags(InterfaceAddress& address, const NetworkState& state) {
        const Interface* const by = state.find_interface(address.interface_index);
        if (by == nullptr || address.ip.family != Family::v6) return;
        const auto flags = system_.address_flags(by->name, address.ip);
        if (flags) set_address_flags(System::dialect(), *flags, address);
    }

    // Brings up to date what no message tells: all of it when messages were lost, and the routes in any case.
    [[gnu::cold]] void catch_up() {
        const TimePoint now = loop_.now();
        NetworkState fresh;
        if (lost_ && now >= next_reading_) {
            next_reading_ = now + between_readings;
            lost_ = !read_all(fresh);
            fresh.known = !lost_;
        }
        if (lost_) return static_cast<void>(timer_.at(next_reading_));
        NetworkState* const is = feed_.edit();
        if (is == nullptr) return;
        if (fresh.known) {
            std::swap(is->interfaces, fresh.interfaces);
            std::swap(is->addresses, fresh.addresses);
            is->known = true;
            dns_.read(*is);
        }
        bool unchecked = false;
        for (InterfaceAddress& address : is->addresses) {
            if (address.tentative && !System::dialect().in_iff) read_flags(address, *is);
            unchecked = unchecked || address.tentative;
        }
        doubtful_ = false;
        ask(*is);
        feed_.publish();
        if (looks_ < (unchecked ? looks_at_all : looks_at_routes)) timer_.after(look_again[looks_++]);
        if (doubtful_ && !timer_.armed()) timer_.after(RouteDoubt::patience);
    }

    void ask(NetworkState& state) {
        for (Family family : {Family::v4, Family::v6}) {
            std::uint32_t& asked = asked_[family == Family::v6];
            asked = ++sequence_;
            const RouteRequest request = route_query(System::dialect(), destination(family), asked, std::endian::native);
            const auto sent = system_.send(request.bytes());
            if (sent) continue;
            // Refused for want of a route (ESRCH, ENETUNREACH) or of the family itself: then there is none.
            const bool later = sent.error() == Errc::would_block || sent.error() == Errc::out_of_memory;
            if (later)
                doubtful_ = true;
            else
                answered(family, Route(), state);
            asked = 0;
        }
    }
    void answered(Family family, Route route, NetworkState& state) {
        asked_[family == Family::v6] = 0;
        if (route.present) route.source = system_.source(destination(family));
        if (doubt_.take(route, family, loop_.now(), state)) return;
        doubtful_ = true;
        if (!timer_.armed()) timer_.after(RouteDoubt::patience);
    }
    static const IpAddress& destination(Family family) { return family == Family::v4 ? internet_v4 : internet_v6; }

    Result<void> read_all(NetworkState& to) {
        bool stored = true;
        const auto store = [&](const RouteUpdate& update) {
            if (update.kind == RouteUpdate::Kind::interface_is) stored = put_interface(update.interface_, to) && stored;
            if (update.kind == RouteUpdate::Kind::address_is) stored = put_address(update, to) && stored;
        };
        Result<void> decoded = {};
        auto listed = system_.list(
            [&](Bytes messages) { decoded = decode_route_messages(System::list_dialect(), messages, std::endian::native, store); });
        if (!listed) return listed;
        if (!stored) return Errc::out_of_memory;
        return decoded;
    }
    void read_dns() {
        NetworkState* const is = state().known ? feed_.edit() : nullptr;
        if (is == nullptr) return;
        dns_.read(*is);
        feed_.publish();
    }

    Loop& loop_;
    System system_;
    Loop::Watch watch_;  // after the system: it stops before the socket is closed
    Loop::Timer timer_;
    ChangeFeed feed_;
    Dns dns_;
    WakeWatch wake_;
    Error error_;
    TimePoint next_reading_;
    RouteDoubt doubt_;
    std::uint32_t asked_[2] = {};  // what the question under way is called, for each family; 0: there is none
    std::uint32_t sequence_ = 0;
    std::size_t looks_ = looks_at_all;  // none is due
    bool touched_ = false;              // a message said that something changed
    bool lost_ = false;                 // some were lost
    bool doubtful_ = false;             // a route was not believed, or could not be asked for
    std::byte buffer_[4096];            // the kernel's messages have at most 16 addresses of 255 bytes, and are far from it
};

}  // namespace rejoin::inline v0_1
