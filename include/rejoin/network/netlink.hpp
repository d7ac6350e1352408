// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/network/dns_watch.hpp>
#include <rejoin/network/feed.hpp>
#include <rejoin/network/netlink_decoder.hpp>
#include <rejoin/network/route_doubt.hpp>
#include <rejoin/network/wake_watch.hpp>
#include <rejoin/os/linux/netlink_socket.hpp>
#include <rejoin/os/loop.hpp>
#include <utility>

#if defined(__linux__)
#include <net/if.h>

namespace rejoin::inline v0_1 {

/// The event source of Linux: one netlink socket a loop, however many pipes. A message becomes changes as soon as it is read, with
/// nothing in between; after it the kernel is asked which routes it takes now, since IPv4 routes vanish without a message. Belongs to
/// the loop's thread, and watches the network namespace in which that thread was when the source was made.
class Netlink {
public:
    /// Opens the sockets and reads the state: `error` says whether that went well. Use `of`, so that a loop has one.
    explicit Netlink(Loop& loop)
        : loop_(loop),
          watch_(loop, Delegate<void(Ready)>::to<&Netlink::hear>(this)),
          timer_(loop, Delegate<void()>::to<&Netlink::due>(this)),
          feed_(loop),
          dns_(loop, Delegate<void()>::to<&Netlink::read_dns>(this)),
          wake_(loop, feed_, Delegate<void()>::to<&Netlink::read_dns>(this)) {
        error_ = open();
        if (!error_) catch_up();
    }
    /// The one of this loop, made when first asked for. Lives as long as the loop.
    static Netlink& of(Loop& loop) { return loop.service<Netlink>(); }

    /// What is known now; changes only in the loop. While the changes that a message brought are delivered, the routes may still be those
    /// of before: theirs follow in the same turn.
    const NetworkState& state() const { return feed_.state(); }
    /// Tells `observer` of every change from now on, until it is unlinked or destroyed.
    void observe(NetworkObserver& observer) { feed_.observe(observer); }
    /// Why the network cannot be watched (some sandboxes forbid it), or none; `state().known` is then false for good.
    Error error() const { return error_; }

    /// The route that the kernel would take to `destination` now, for a socket bound to `source` (of family `none`: not bound) and marked
    /// with `mark` (SO_MARK; 0: not marked), by all its rules and tables: one look-up, about 10 µs, and no packet. Not `present`: it would
    /// refuse, or send into a dead link. `invalid_argument`: no address, or a source of the other family; or `error()`; any other: the
    /// kernel could not be asked.
    Result<Route> route_to(const IpAddress& destination, const IpAddress& source = {}, std::uint32_t mark = 0) {
        if (source.family != Family::none && source.family != destination.family) return Errc::invalid_argument;
        auto route = ask_route(destination, source, mark);
        if (route && leads_nowhere(*route, state())) return Route();
        return route;
    }

private:
    // The kernel tells of a link or an address before it has taken the routes away, and is silent about those: so look again, in case it
    // was not through at once, nor soon.
    static constexpr Duration look_again[] = {Duration::milliseconds(1), Duration::milliseconds(10), Duration::milliseconds(100)};
    // However often messages are lost, everything is read again only so often.
    static constexpr Duration between_readings = Duration::milliseconds(100);
    // Datagrams that are read before the loop gets its turn.
    static constexpr int burst = 64;

    Error open() {
        auto events = NetlinkSocket::events();
        if (!events) return events.error();
        auto requests = NetlinkSocket::requests();
        if (!requests) return requests.error();
        events_ = std::move(*events);
        requests_ = std::move(*requests);
        return watch_.start(events_.fd(), Ready::readable).error();
    }

    struct Touched {
        bool any() const { return v4 || v6; }
        bool v4 = false, v6 = false;
    };

    void due() { lost_ ? hear(Ready::readable) : catch_up(); }

    void hear(Ready) {
        wake_.look();
        unsettled_ = false;
        // After a loss the kernel adds nothing until all is read: what is older than what will be read again must go first.
        bool drain = false;
        for (int n = 0; n < burst || drain; ++n) {
            auto size = events_.receive(buffer_);
            if (!size && size.error() != Errc::too_large) {
                lost_ = lost_ || size.error() != Errc::would_block;
                break;
            }
            NetworkState* const state = size ? feed_.edit() : nullptr;
            if (state == nullptr) {
                lost_ = drain = true;
                continue;
            }
            apply({buffer_, *size}, *state);
            if (feed_.publish()) unsettled_ = true;
            // Asked at once, and only for its family: a handler waits for it.
            if (const Touched touched = std::exchange(touched_, {}); touched.any() && !unsettled_ && !lost_) catch_up(touched);
        }
        if (!unsettled_ && !lost_) return;
        looks_ = 0;
        catch_up();
    }

    // Applies a datagram to the state.
    void apply(Bytes datagram, NetworkState& state) {
        using Kind = NetlinkUpdate::Kind;
        bool stored = true;
        auto decoded = decode_netlink(datagram, std::endian::native, [&](const NetlinkUpdate& update) {
            const InterfaceAddress& address = update.address;
            switch (update.kind) {
                case Kind::interface_is:
                    stored = state.put(update.interface_) && stored;
                    break;
                case Kind::interface_gone:
                    state.remove_interface(update.interface_.index);
                    break;
                case Kind::address_is:
                    // Routers announce lifetimes again and again. What is new may change a route's source, even if `diff` is silent.
                    if (const auto* is = state.find_address(address.interface_index, address.ip); is != nullptr && *is == address) break;
                    stored = state.put(address) && stored;
                    unsettled_ = true;
                    break;
                case Kind::address_gone:
                    state.remove(address);
                    unsettled_ = true;
                    break;
                default:
                    touched_.v4 = touched_.v4 || update.family != Family::v6;
                    touched_.v6 = touched_.v6 || update.family != Family::v4;
            }
        });
        if (!decoded || !stored) lost_ = true;
    }

    // Brings up to date what no message tells: all of it when messages were lost, and the routes in any case, of these families.
    [[gnu::cold]] void catch_up(Touched of = {true, true}) {
        const TimePoint now = loop_.now();
        NetworkState fresh;
        if (lost_ && now >= next_reading_) {
            next_reading_ = now + between_readings;
            const Error error = read_all(fresh).error();
            if (!state().known && error.domain() == Error::Domain::system) return give_up(error);
            lost_ = static_cast<bool>(error);
        }
        if (lost_) timer_.at(next_reading_);
        NetworkState* const is = fresh.known || state().known ? feed_.edit() : nullptr;
        if (is == nullptr) return;
        if (fresh.known) {
            std::swap(is->interfaces, fresh.interfaces);
            std::swap(is->addresses, fresh.addresses);
            is->known = true;
            dns_.read(*is);
        }
        bool doubtful = false;
        for (Family family : {Family::v4, Family::v6}) {
            if (!(family == Family::v4 ? of.v4 : of.v6)) continue;
            const auto answer = ask_route(family == Family::v4 ? internet_v4 : internet_v6);
            doubtful = !(answer && doubt_.take(*answer, family, now, *is)) || doubtful;
        }
        const bool looks_due = looks_ < sizeof look_again / sizeof look_again[0];
        if (!lost_ && looks_due && of.v4 && of.v6)
            timer_.after(look_again[looks_++]);
        else if (!lost_ && !looks_due && doubtful)
            timer_.after(RouteDoubt::patience);
        feed_.publish();
    }

    void read_dns() {
        NetworkState* const is = state().known ? feed_.edit() : nullptr;
        if (is == nullptr) return;
        dns_.read(*is);
        feed_.publish();
    }

    Result<Route> ask_route(const IpAddress& destination, const IpAddress& source = {}, std::uint32_t mark = 0) {
        if (destination.family == Family::none) return Errc::invalid_argument;
        if (error_) return error_;
        Route route;  // stays absent when the kernel refuses: ENETUNREACH, or what a route of type prohibit or blackhole says
        auto asked = ask(route_query(destination, ++sequence_, std::endian::native, source, mark), [&](const NetlinkUpdate& update) {
            if (update.kind == NetlinkUpdate::Kind::route_is) route = update.route;
        });
        if (!asked) return asked.error();
        return route;
    }

    void give_up(Error error) {
        error_ = error;
        timer_.cancel();
        watch_.stop();
        events_ = NetlinkSocket();
    }

    // `cancelled`: a change overtook the reading.
    Result<void> read_all(NetworkState& to) {
        Error error;
        const auto store = [&](const NetlinkUpdate& update) {
            bool stored = true;
            if (update.kind == NetlinkUpdate::Kind::interface_is) stored = to.put(update.interface_);
            if (update.kind == NetlinkUpdate::Kind::address_is) stored = to.put(update.address);
            if (!stored) error = Errc::out_of_memory;
            if (update.interrupted) error = Errc::cancelled;
            if (update.error != 0) error = Error::system(update.error);
        };
        if (auto links = ask(link_dump(++sequence_, std::endian::native), store); !links) return links;
        if (auto addresses = ask(address_dump(++sequence_, std::endian::native), store); !addresses) return addresses;
        to.known = !error;
        return error;
    }

    // Sends a request and gives each update of its answer to `sink`, a refusal included. The kernel answers while it takes the request, so
    // nothing is waited for.
    template <class Sink>
    [[gnu::cold]] Result<void> ask(const NetlinkRequest& request, Sink sink) {
        if (auto sent = requests_.send(request.bytes()); !sent) return sent;
        for (bool end = false; !end;) {
            auto size = requests_.receive(buffer_);
            Result<void> read = size.error();
            if (size)
                read = decode_netlink({buffer_, *size}, std::endian::native, [&](const NetlinkUpdate& update) {
                    if (update.sequence != sequence_) return;
                    end = end || update.kind == NetlinkUpdate::Kind::end || update.kind == NetlinkUpdate::Kind::route_is;
                    sink(update);
                });
            if (!read) {
                drain();
                return read;
            }
        }
        return {};
    }
    // Reads the rest of an answer that is given up: the kernel makes no other dump before that.
    [[gnu::cold]] void drain() {
        for (auto size = requests_.receive(buffer_); size || size.error() == Errc::too_large;) size = requests_.receive(buffer_);
    }

    Loop& loop_;
    NetlinkSocket events_, requests_;
    Loop::Watch watch_;  // after the sockets: it stops before they are closed
    Loop::Timer timer_;
    ChangeFeed feed_;
    DnsWatch dns_;
    WakeWatch wake_;
    Error error_;
    TimePoint next_reading_;
    RouteDoubt doubt_;
    std::uint32_t sequence_ = 0;
    std::uint8_t looks_ = sizeof look_again / sizeof look_again[0];  // none is due
    Touched touched_;                                                // a message said that routes of these families changed
    bool unsettled_ = false;                                         // a message said what may make routes change without one
    bool lost_ = true;                                               // nothing has been read yet
    // The kernel's dumps come in pieces of up to 32 KiB when there is room for them, and no message of its own comes near that. Whoever
    // reads has done with it before anybody else is called.
    std::byte buffer_[32 * 1024];
};

// The decoder's numbers are the system's.
static_assert([] {
    using namespace rtnetlink;
    return nlmsg_error == NLMSG_ERROR && nlmsg_done == NLMSG_DONE && rtm_newlink == RTM_NEWLINK && rtm_dellink == RTM_DELLINK &&
           rtm_getlink == RTM_GETLINK && rtm_newaddr == RTM_NEWADDR && rtm_deladdr == RTM_DELADDR && rtm_getaddr == RTM_GETADDR &&
           rtm_newroute == RTM_NEWROUTE && rtm_delroute == RTM_DELROUTE && rtm_getroute == RTM_GETROUTE && rtm_newrule == RTM_NEWRULE &&
           rtm_delrule == RTM_DELRULE && nlm_f_request == NLM_F_REQUEST && nlm_f_dump_intr == NLM_F_DUMP_INTR && nlm_f_dump == NLM_F_DUMP &&
           nla_type_mask == static_cast<std::uint16_t>(NLA_TYPE_MASK) && ifla_ifname == IFLA_IFNAME && ifa_address == IFA_ADDRESS &&
           ifa_local == IFA_LOCAL && ifa_flags == IFA_FLAGS && rta_dst == RTA_DST && rta_src == RTA_SRC && rta_mark == RTA_MARK &&
           rta_oif == RTA_OIF && rta_gateway == RTA_GATEWAY && rta_prefsrc == RTA_PREFSRC && rta_via == RTA_VIA && iff_up == IFF_UP &&
           iff_loopback == IFF_LOOPBACK && iff_pointopoint == IFF_POINTOPOINT && ifa_f_optimistic == IFA_F_OPTIMISTIC &&
           ifa_f_dadfailed == IFA_F_DADFAILED && ifa_f_deprecated == IFA_F_DEPRECATED && ifa_f_temporary == IFA_F_TEMPORARY &&
           iff_running == IFF_RUNNING && ifa_f_tentative == IFA_F_TENTATIVE && rtnh_f_dead == RTNH_F_DEAD &&
           rtnh_f_linkdown == RTNH_F_LINKDOWN && af_unspec == AF_UNSPEC && af_inet == AF_INET && af_inet6 == AF_INET6 &&
           rtn_unicast == RTN_UNICAST && rtn_local == RTN_LOCAL && nlmsghdr_size == sizeof(nlmsghdr) && rtattr_size == sizeof(rtattr) &&
           ifinfomsg_size == sizeof(ifinfomsg) && ifaddrmsg_size == sizeof(ifaddrmsg) && rtmsg_size == sizeof(rtmsg);
}());

}  // namespace rejoin::inline v0_1
#endif
