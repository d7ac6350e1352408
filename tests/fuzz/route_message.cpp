// SPDX-License-Identifier: BSL-1.0
// Any bytes behind the first as what a routing socket of each system gives, in both byte orders, applied to a state.
#include <cstdlib>
#include <rejoin/network/change.hpp>
#include <rejoin/network/route_message.hpp>

using namespace rejoin;

namespace {

void expect(bool it_is_so) {
    if (!it_is_so) std::abort();
}

void apply(NetworkState& state, const RouteUpdate& update) {
    using Kind = RouteUpdate::Kind;
    switch (update.kind) {
        case Kind::interface_is:
            expect(update.interface_.index != 0);
            expect(state.put(update.interface_));
            break;
        case Kind::interface_gone:
            state.remove_interface(update.interface_.index);
            break;
        case Kind::address_is:
        case Kind::address_gone:
            expect(update.address.ip.family != Family::none && update.address.interface_index != 0);
            expect(update.address.prefix_length <= (update.address.ip.family == Family::v4 ? 32 : 128));
            if (update.kind == Kind::address_is)
                expect(state.put(update.address));
            else
                state.remove(update.address);
            break;
        case Kind::route_is:
            state.route_for(update.route.gateway.family) = update.route;
            break;
        default:
            break;
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace route_dialect;
    static constexpr const RouteDialect* dialects[] = {&macos,           &freebsd, &freebsd_32, &freebsd_list,
                                                       &freebsd_list_32, &netbsd,  &openbsd,    &openbsd_32};
    if (size == 0) return 0;
    NetworkState before, after;
    for (std::endian order : {std::endian::little, std::endian::big}) {
        expect(before.copy_from(after));
        const auto decoded = decode_route_messages(*dialects[data[0] % 8], {reinterpret_cast<const std::byte*>(data) + 1, size - 1}, order,
                                                   [&](const RouteUpdate& update) { apply(after, update); });
        expect(decoded || decoded.error() == Errc::malformed);
        diff(before, after, [&](const NetworkChange& change) { expect(!describe(change).empty()); });
    }
    return 0;
}
