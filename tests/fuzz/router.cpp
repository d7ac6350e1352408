// SPDX-License-Identifier: BSL-1.0
// A hostile gateway: whatever it answers, to whichever question, the mapper goes on, sends a bounded number of things, and ends when it is
// told to. Input: pieces of a byte that says how it comes, one of size, and that many bytes; XML and HTTP are read by themselves too.
#include <cstdlib>
#include <rejoin/firewall/router/mapper.hpp>

using namespace rejoin;
using namespace rejoin::router;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const IpAddress gateway = IpAddress::v4(192, 168, 7, 1), local = IpAddress::v4(192, 168, 7, 2);
    const IpAddress v6 = {{0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2}, 0, Family::v6};
    pcp::Nonce nonce;
    for (std::size_t i = 0; i < sizeof nonce; ++i) nonce[i] = static_cast<std::byte>(i + 1);
    TimePoint now = TimePoint() + Duration::seconds(1000);
    Want want;
    want.port = 7000;
    Mapper mapper;
    const bool pinhole = size > 0 && (data[0] & 0x80) != 0;
    mapper.start(want, pinhole ? v6 : gateway, pinhole ? v6 : local, gateway, nonce, now);
    const auto send = [&] {
        Mapper::Output out;
        int n = 0;
        while (mapper.next(out)) {
            if (++n > 16 || out.text.empty()) std::abort();
            if (out.kind == Mapper::Output::Kind::http && !(out.to.ip() == gateway) && !(pinhole && out.to.ip() == v6))
                std::abort();  // nobody else is asked
        }
    };
    send();
    while (size >= 3) {
        const std::uint8_t how = data[0];
        std::size_t n = static_cast<std::size_t>(data[1]) << 8 | data[2];
        data += 3;
        size -= 3;
        n = n < size ? n : size;
        const Bytes bytes{reinterpret_cast<const std::byte*>(data), n};
        const TextView text(reinterpret_cast<const char*>(data), n);
        switch (how & 7) {
            case 0:
            case 1:
                mapper.control({pinhole ? v6 : gateway, pcp_port}, bytes, now);
                break;
            case 2:
                mapper.found({gateway, 1900}, bytes, now);
                break;
            case 3:
            case 4: {
                upnp::HttpAnswer answer;
                if (const auto whole = upnp::read_http(text, (how & 8) != 0, answer); whole && *whole) {
                    if (answer.body.size() > 2 * XmlReader::size_max) std::abort();
                    mapper.http(std::move(answer), now);
                }
                break;
            }
            case 5: {
                upnp::HttpAnswer answer;
                answer.status = (how & 8) != 0 ? 500 : 200;
                if (answer.body.append(text.data(), text.size())) mapper.http(std::move(answer), now);
                break;
            }
            case 6:
                if ((how & 8) != 0)
                    mapper.announced(pinhole ? v6 : gateway, bytes, now);
                else
                    mapper.refused(now);
                break;
            default:
                now = now + Duration::milliseconds(static_cast<std::int64_t>(n) * 10 + 1);
                mapper.advance(now);
                n = 0;
        }
        if (mapper.deadline() + Duration::seconds(3600) < now) std::abort();
        send();
        XmlReader xml(text);
        for (std::size_t tokens = 0;; ++tokens) {
            const auto token = xml.next();
            if (!token || *token == XmlReader::Token::end) break;
            if (tokens > text.size() * 2 + 2) std::abort();
        }
        data += n;
        size -= n;
    }
    mapper.close(now);
    for (int i = 0; i < 20 && mapper.state() != Mapper::State::closed; ++i) {
        send();
        now = now + Duration::milliseconds(250);
        mapper.advance(now);
    }
    if (mapper.state() != Mapper::State::closed) std::abort();
    return 0;
}
