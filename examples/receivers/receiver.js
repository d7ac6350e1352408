// SPDX-License-Identifier: BSL-1.0
// Takes a connection that is pushed to it: push --node HOST:PORT node receiver.js
//
// Node accepts by itself, and hands the socket over as a child's message; the commit comes as the next. Greets, and sends back whatever
// comes. include/rejoin/handoff/README.md has the protocol.
'use strict';

const offered = new Map();

process.on('message', (message, handle) => {
    if (message.rejoin === 'offer') {
        if (handle) handle.pause();
        offered.set(message.id, {message, handle});
    } else if (message.rejoin === 'commit') {
        const {message: offer, handle: socket} = offered.get(message.id);
        offered.delete(message.id);
        socket.write(`hello from Node, ${offer.note}\n`);
        socket.write(Buffer.from(offer.unread || '', 'base64'));
        socket.pipe(socket);
        socket.resume();
        process.disconnect();  // one is enough; the process ends with its connection
    } else if (message.rejoin === 'withdraw') {
        offered.get(message.id).handle.destroy();
        offered.delete(message.id);
    }
});
