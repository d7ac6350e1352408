// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <rejoin/handoff/channel.hpp>

namespace rejoin::inline v0_1::handoff {

/// Pushes a pipe's conversation to whoever is at the other end of `channel`: the pipe is `closed` when this returns, and `done` tells what
/// became of the conversation. Where it comes back, `pipe.adopt`, or `listener.adopt` for one that was accepted, goes on with it. `note`
/// travels along. Fails, and nothing has happened, as `Channel::offer` does for a closed or full channel, and as `Pipe::depart`; what fails
/// after that is told by `done` too, in this call.
template <class P>
Result<std::uint64_t> push(Channel& channel, P& pipe, TextView note, Channel::Done done) {
    if (auto room = channel.has_room(); !room) return room.error();
    auto parcel = pipe.depart();
    if (!parcel) return parcel.error();
    Result<std::uint64_t> offered = Errc::out_of_memory;
    if (parcel->note.append(note.data(), note.size())) offered = channel.offer(std::move(*parcel), std::move(done));
    if (!offered && done) done(offered.error(), std::move(*parcel));
    return offered;
}

}  // namespace rejoin::inline v0_1::handoff
