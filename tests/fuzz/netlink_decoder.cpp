// SPDX-License-Identifier: BSL-1.0
// Any bytes as a netlink datagram, in both byte orders, applied to a state as the event source applies them.
#include <cstdlib>
#include <rejoin/network/change.hpp>
#include <rejoin/network/netlink_decoder.hpp>

using namespace rejoin;

namespace {

void expect(bool it_is_so) {
    if (!it_is_so) std::abort();
}

void apply(NetworkState& state, const NetlinkUpdate& update) {
    using Kind = NetlinkUpdate::Kind;
    if (update.kind == Kind::interface_is) expect(state.put(update.interface_));
    if (update.kind == Kind::interface_gone) state.remove_interface(update.interface_.index);
    if (update.kind == Kind::address_is) {
        expect(update.address.ip.family != Family::none);
        expect(state.put(update.address));
    }
    if (update.kind == Kind::address_gone) state.remove(update.address);
    if (update.kind == Kind::route_is) state.route_for(update.route.gateway.family) = update.route;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    NetworkState before, after;
    for (std::endian order : {std::endian::little, std::endian::big}) {
        expect(before.copy_from(after));
        const auto decoded = decode_netlink({reinterpret_cast<const std::byte*>(data), size}, order,
                                            [&](const NetlinkUpdate& update) { apply(after, update); });
        expect(decoded || decoded.error() == Errc::malformed);
        std::size_t changes = 0;
        diff(before, after, [&](const NetworkChange& change) {
            ++changes;
            expect(!describe(change).empty());
            for (const InterfaceAddress& address : before.addresses) change.affects(address.ip, address.ip);
        });
        // Every interface and address can change in so many ways at once, and the routes and what follows from them in five.
        expect(changes <=
               3 * (before.interfaces.size() + after.interfaces.size()) + 2 * (before.addresses.size() + after.addresses.size()) + 5);
        diff(after, after, [](const NetworkChange&) { expect(false); });
    }
    return 0;
}
