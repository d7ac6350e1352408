// SPDX-License-Identifier: BSL-1.0
#include <rejoin/firewall/router/mapper.hpp>
#include <string>
#include <vector>

#include "catch.hpp"
#include "session/bytes.hpp"

using namespace rejoin;
using namespace rejoin::router;

namespace {

std::string text(TextView view) { return {view.data(), view.size()}; }
constexpr IpAddress gateway = IpAddress::v4(192, 168, 7, 1), local = IpAddress::v4(192, 168, 7, 2), other = IpAddress::v4(192, 168, 7, 99);
const Endpoint control(gateway, pcp_port);
constexpr pcp::Nonce nonce = {std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4},  std::byte{5},  std::byte{6},
                              std::byte{7}, std::byte{8}, std::byte{9}, std::byte{10}, std::byte{11}, std::byte{12}};

// RFC 6887's answer to a MAP request: for TCP 7000, given as 45.45.45.1:7001.
std::string pcp_answer(const char* code = "00", const char* lifetime = "00000258", const char* epoch = "00000064",
                       const char* internal = "1b58") {
    return std::string("02 81 00 ") + code + " " + lifetime + " " + epoch +
           " 00000000 00000000 00000000 0102030405060708090a0b0c 06 000000 " + internal + " 1b59 00000000000000000000ffff2d2d2d01";
}
upnp::HttpAnswer http(const std::string& body, std::uint32_t status = 200) {
    upnp::HttpAnswer answer;
    answer.status = status;
    REQUIRE(answer.body.append(body.data(), body.size()));
    return answer;
}
std::string soap(const std::string& inner) {
    return "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>" + inner +
           "</s:Body></s:Envelope>";
}
constexpr char description[] = R"(<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major><minor>1</minor></specVersion>
<device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:2</deviceType><friendlyName>A &amp; B</friendlyName>
<serviceList><service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType><controlURL>/ctl/L3F</controlURL></service></serviceList>
<deviceList><device><deviceList><device><serviceList>
<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType><serviceId>x</serviceId><controlURL>/ctl/IPConn1</controlURL><eventSubURL/></service>
<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:2</serviceType><controlURL>/ctl/IPConn</controlURL></service>
<service><serviceType>urn:schemas-upnp-org:service:WANIPv6FirewallControl:1</serviceType><controlURL>http://192.168.7.1:5000/ctl/IP6FCtl</controlURL></service>
</serviceList></device></deviceList></device></deviceList></device></root>)";

// A mapper, and a gateway that the test plays.
struct Played {
    explicit Played(const IpAddress& at = gateway, const IpAddress& from = local, const IpAddress& v4 = {}) {
        want.port = 7000;
        want.lifetime = Duration::seconds(600);
        want.name = TextView("rejoin:game:tcp/7000");
        mapper.start(want, at, from, v4, nonce, now);
    }
    // What is sent now: of each, the first bytes or words.
    std::string sent() {
        std::string all;
        Mapper::Output out;
        while (mapper.next(out)) {
            last = text(out.text);
            sent_to = out.to;
            sent_from = out.from;
            if (out.kind == Mapper::Output::Kind::control) all += last.size() == 60 ? "pcp " : last.size() == 12 ? "map " : "address ";
            if (out.kind == Mapper::Output::Kind::search) all += "search@" + text(to_text(out.to)) + " ";
            if (out.kind == Mapper::Output::Kind::http) {
                const std::size_t at = last.find('#');
                all += at == std::string::npos ? "get " : last.substr(at + 1, last.find('"', at) - at - 1) + " ";
            }
        }
        return all;
    }
    std::string wait(int ms) {
        now = now + Duration::milliseconds(ms);
        mapper.advance(now);
        return sent();
    }
    void hear(const std::string& hex, const Endpoint& from = control) { mapper.control(from, test::from_hex(hex), now); }
    void find(const char* location, const IpAddress& from = gateway) {
        const std::string answer =
            std::string("HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\nLocation: ") + location + "\r\n\r\n";
        mapper.found({from, 1900}, TextView(answer).bytes(), now);
    }
    TimePoint now = TimePoint() + Duration::seconds(1000);
    Want want;
    Mapper mapper;
    std::string last;
    Endpoint sent_to;
    IpAddress sent_from;
};

}  // namespace

TEST_CASE("PCP: a request is written as RFC 6887 has it, and its answer read") {
    std::byte request[pcp::request_size];
    pcp::encode_map(request, nonce, local, Protocol::tcp, 7000, 7001, {}, 600);
    CHECK(test::to_hex(Bytes(request)) ==
          test::hex("02 01 0000 00000258 00000000000000000000ffffc0a80702 0102030405060708090a0b0c 06 000000 1b58 1b59 "
                    "00000000000000000000ffff00000000"));
    const auto v6 = *IpAddress::parse("2001:db8::2");
    pcp::encode_map(request, nonce, v6, Protocol::udp, 1, 0, {}, 0);
    CHECK(test::to_hex(Bytes(request)) ==
          test::hex("02 01 0000 00000000 20010db8000000000000000000000002 0102030405060708090a0b0c 11 000000 0001 0000 "
                    "00000000000000000000000000000000"));
    const auto answer = pcp::decode_map(test::from_hex(pcp_answer()), nonce);
    CHECK(answer.kind == pcp::Answer::Kind::granted);
    CHECK(answer.granted.lifetime == 600);
    CHECK(answer.granted.epoch == 100);
    CHECK(answer.granted.internal_port == 7000);
    CHECK(answer.granted.external_port == 7001);
    CHECK(answer.granted.external == IpAddress::v4(45, 45, 45, 1));
    const auto refused = pcp::decode_map(test::from_hex(pcp_answer("08", "0000001e")), nonce);
    CHECK(refused.kind == pcp::Answer::Kind::refused);
    CHECK(refused.code == pcp::Code::no_resources);
    CHECK(refused.retry == 30);
    CHECK(pcp::decode_map(test::from_hex("00 81 0001 00000000"), nonce).kind == pcp::Answer::Kind::old_version);
    CHECK(pcp::decode_map(test::from_hex("01 81 00 01 00000000 00000000 00000000 00000000 00000000"), nonce).kind ==
          pcp::Answer::Kind::old_version);
    // Cut short, too long, of another nonce, a request, another opcode: for somebody else.
    const test::Buffer whole = test::from_hex(pcp_answer());
    for (std::size_t n = 0; n < whole.size(); ++n) CHECK(pcp::decode_map(Bytes(whole).first(n), nonce).kind == pcp::Answer::Kind::none);
    for (std::size_t at : {std::size_t{0}, std::size_t{1}, std::size_t{24}, std::size_t{35}}) {
        test::Buffer changed = whole;
        changed[at] ^= std::byte{0x02};
        CHECK(pcp::decode_map(changed, nonce).kind == pcp::Answer::Kind::none);
    }
    test::Buffer longest = whole;
    longest.resize(1104);
    CHECK(pcp::decode_map(longest, nonce).kind == pcp::Answer::Kind::none);
}

TEST_CASE("NAT-PMP: requests are written as RFC 6886 has them, and answers read") {
    std::byte request[nat_pmp::request_size];
    nat_pmp::encode_map(request, Protocol::udp, 7000, 7001, 600);
    CHECK(test::to_hex(Bytes(request)) == test::hex("00 01 0000 1b58 1b59 00000258"));
    nat_pmp::encode_map(request, Protocol::tcp, 7000, 7001, 0);
    CHECK(test::to_hex(Bytes(request)) == test::hex("00 02 0000 1b58 0000 00000000"));
    auto answer = nat_pmp::decode(test::from_hex("00 80 0000 00000064 2d2d2d01"));
    CHECK(answer.kind == nat_pmp::Answer::Kind::address);
    CHECK(answer.granted.external == IpAddress::v4(45, 45, 45, 1));
    answer = nat_pmp::decode(test::from_hex("00 82 0000 00000064 1b58 1b59 00000258"));
    CHECK(answer.kind == nat_pmp::Answer::Kind::granted);
    CHECK(answer.granted.protocol == Protocol::tcp);
    CHECK(answer.granted.external_port == 7001);
    answer = nat_pmp::decode(test::from_hex("00 81 0003 00000064"));
    CHECK(answer.kind == nat_pmp::Answer::Kind::refused);
    CHECK(answer.code == 3);
    for (const char* bad :
         {"", "00", "00 80 0000", "01 80 0000 00000064 2d2d2d01", "00 80 0000 00000064 2d2d2d", "00 80 0000 00000064 2d2d2d0100",
          "00 83 0000 00000064 1b58 1b59 00000258", "00 02 0000 00000064 1b58 1b59 00000258", "00 81 0000 00000064 1b58 1b59"})
        CHECK(nat_pmp::decode(test::from_hex(bad)).kind == nat_pmp::Answer::Kind::none);
}

TEST_CASE("a gateway that was restarted is known by its clock (RFC 6887, 8.5)") {
    Epoch epoch;
    TimePoint now;
    const auto after = [&](int seconds, std::uint32_t says) {
        now = now + Duration::seconds(seconds);
        return epoch.restarted(says, now);
    };
    CHECK_FALSE(after(0, 1000));
    CHECK_FALSE(after(100, 1100));
    CHECK_FALSE(after(100, 1195));  // a clock that is a little slow
    CHECK_FALSE(after(1, 1195));
    CHECK(after(100, 5));
    CHECK_FALSE(after(100, 105));
    CHECK(after(100, 400));  // it went on without us: another one
    CHECK(after(1000, 500));
    CHECK_FALSE(after(0, 500));
}

TEST_CASE("XML: elements by their local names, and what is in them; bombs are refused") {
    const auto read = [](TextView document) {
        XmlReader xml(document);
        std::string all;
        for (;;) {
            const auto token = xml.next();
            if (!token) return all + "!" + std::to_string(token.error().code());
            if (*token == XmlReader::Token::end) return all;
            all += *token == XmlReader::Token::open    ? "<" + text(xml.value())
                   : *token == XmlReader::Token::close ? ">"
                                                       : "'" + text(xml.value()) + "'";
        }
    };
    CHECK(read("<?xml version=\"1.0\"?><!-- no --><a x='>' y=\"/>\"><s:b>text</s:b><c/><![CDATA[<raw>]]></a>") == "<a<b'text'><c>'<raw>'>");
    CHECK(read("") == "");
    const std::string malformed = "!" + std::to_string(Error(Errc::malformed).code()),
                      large = "!" + std::to_string(Error(Errc::too_large).code());
    CHECK(read("<a><b></a></b>") == "<a<b" + malformed);
    CHECK(read("<a>") == "<a" + malformed);
    CHECK(read("</a>") == malformed);
    CHECK(read("<>") == malformed);
    CHECK(read("<a") == malformed);
    CHECK(read("<a x=\"") == malformed);
    CHECK(read("<a><!-- ") == "<a" + malformed);
    CHECK(read("<!DOCTYPE lolz [<!ENTITY lol \"lol\"><!ENTITY lol2 \"&lol;&lol;\">]><lolz>&lol2;</lolz>") == malformed);
    CHECK(read("<a>&lol2;</a>") == "<a'&lol2;'>");
    std::string deep;
    for (int i = 0; i < 100'000; ++i) deep += "<a>";
    CHECK(read(deep) == large);
    std::string nested;
    for (int i = 0; i < 33; ++i) nested += "<a>";
    CHECK(read(nested).substr(64) == large);
    Text<15> plain;
    XmlReader::plain("&lt;a&gt; &amp;amp; &#65;&x;", plain);
    CHECK(text(plain) == "<a> &amp; &#65;");
}

TEST_CASE("UPnP: URLs lead to the gateway, and nowhere else") {
    const auto url = [](const char* what) {
        auto read = upnp::parse_url(what, gateway, Endpoint(gateway, 5000));
        return read ? text(to_text(read->at)) + text(read->path) : std::string("-");
    };
    CHECK(url("http://192.168.7.1:5001/a/b?c=d") == "192.168.7.1:5001/a/b?c=d");
    CHECK(url("HTTP://192.168.7.1") == "192.168.7.1:80/");
    CHECK(url("/ctl") == "192.168.7.1:5000/ctl");
    CHECK(url("ctl") == "192.168.7.1:5000/ctl");
    for (const char* bad : {"http://192.168.7.99:5000/x", "http://example.org/x", "http://192.168.7.1:0/", "http://192.168.7.1:5000/a b",
                            "/a\r\nX: y", "http://192.168.7.1@192.168.7.99/", "http://127.0.0.1/"})
        CHECK(url(bad) == "-");
    CHECK(url(("/" + std::string(300, 'a')).c_str()) == "-");
}

TEST_CASE("UPnP: answers over HTTP are read in any pieces, and no more than is bearable") {
    const auto read = [](const std::string& all, bool ended) {
        upnp::HttpAnswer answer;
        const auto whole = upnp::read_http(all, ended, answer);
        if (!whole) return "!" + std::to_string(whole.error().code());
        return *whole ? std::to_string(answer.status) + " " + std::string(answer.body.data(), answer.body.size()) : std::string("...");
    };
    const std::string head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                      chunked = "HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n";
    CHECK(read(head + "hello", false) == "200 hello");
    CHECK(read(head + "hello more", false) == "200 hello");
    CHECK(read(head + "hel", false) == "...");
    CHECK(read("HTTP/1.0 200 OK\r\n\r\nhello", false) == "...");
    CHECK(read("HTTP/1.0 200 OK\r\n\r\nhello", true) == "200 hello");
    CHECK(read(chunked + "5\r\nhello\r\n3;x=y\r\n, y\r\n0\r\n\r\n", false) == "500 hello, y");
    for (std::size_t n = 0; n < chunked.size() + 20; ++n)
        CHECK(read((chunked + "5\r\nhello\r\n3\r\n, y\r\n0\r\n").substr(0, n), false) == "...");
    const std::string malformed = "!" + std::to_string(Error(Errc::malformed).code()),
                      large = "!" + std::to_string(Error(Errc::too_large).code());
    CHECK(read(head + "hel", true) == malformed);
    CHECK(read("", true) == malformed);
    CHECK(read("SSH-2.0-x\r\n\r\n", false) == malformed);
    CHECK(read("HTTP/1.1 abc OK\r\n\r\n", true) == malformed);
    CHECK(read("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", false) == large);
    CHECK(read("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", false) == large);
    CHECK(read(chunked + "fffffffff\r\n", false) == large);
    CHECK(read(chunked + "xyz\r\n", false) == malformed);
    CHECK(read(std::string(20'000, 'x'), false) == large);
    CHECK(read("HTTP/1.1 200 OK\r\n\r\n" + std::string(70'000, 'x'), false) == large);
}

TEST_CASE("UPnP: the best service of a description is taken, and actions are written for it") {
    upnp::Url from;
    from.at = Endpoint(gateway, 5000);
    const auto service = upnp::find_service(description, from, gateway, false);
    REQUIRE(service);
    CHECK(service->version == 2);
    CHECK(text(service->control.path) == "/ctl/IPConn");
    const auto pinholes = upnp::find_service(description, from, gateway, true);
    REQUIRE(pinholes);
    CHECK(text(pinholes->control.path) == "/ctl/IP6FCtl");
    CHECK(upnp::find_service("<root/>", from, gateway, false).error() == Errc::unsupported);
    CHECK(upnp::find_service("<root>", from, gateway, false).error() == Errc::malformed);
    CHECK(upnp::find_service(
              "<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType><controlURL>http://192.168.7.99/x"
              "</controlURL></service>",
              from, gateway, false)
              .error() == Errc::unsupported);
    CHECK(text(upnp::Action(*service, "Get").add("A", "<b>&").add("N", std::uint32_t{7}).request()) ==
          "POST /ctl/IPConn HTTP/1.1\r\nHost: 192.168.7.1:5000\r\nContent-Type: text/xml; charset=\"utf-8\"\r\nSOAPAction: "
          "\"urn:schemas-upnp-org:service:WANIPConnection:2#Get\"\r\nContent-Length: 280\r\nConnection: close\r\n\r\n<?xml "
          "version=\"1.0\"?>\r\n"
          "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" "
          "s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:Get "
          "xmlns:u=\"urn:schemas-upnp-org:service:WANIPConnection:2\"><A>&lt;b&gt;&amp;</A><N>7</N></u:Get></s:Body></s:Envelope>\r\n");
    const auto outcome = [](const std::string& body, std::uint32_t status = 200) {
        const auto read = upnp::read_action(http(body, status), "NewExternalIPAddress");
        return read ? std::to_string(read->error) + " " + text(read->value) : "!" + std::to_string(read.error().code());
    };
    CHECK(outcome(soap("<u:R><NewExternalIPAddress> 45.45.45.1 </NewExternalIPAddress></u:R>")) == "0 45.45.45.1");
    CHECK(outcome(soap("<s:Fault><detail><UPnPError><errorCode>718</errorCode></UPnPError></detail></s:Fault>"), 500) == "718 ");
    CHECK(outcome(soap("<s:Fault/>")) == "501 ");
    CHECK(outcome(soap(""), 500) == "501 ");
    CHECK(outcome("<html/>") == "!" + std::to_string(Error(Errc::malformed).code()));
}

TEST_CASE("PCP is asked first, and what it grants is kept: renewed at half its life, and taken back") {
    Played p;
    CHECK(p.mapper.state() == Mapper::State::asking);
    CHECK(p.sent() == "pcp ");
    p.hear(pcp_answer());
    CHECK(p.mapper.state() == Mapper::State::mapped);
    CHECK(p.mapper.changed());
    CHECK_FALSE(p.mapper.changed());
    CHECK(p.mapper.method() == Method::pcp);
    CHECK(text(to_text(p.mapper.external())) == "45.45.45.1:7001");
    CHECK(p.mapper.deadline() == p.now + Duration::seconds(300));
    CHECK(p.wait(299'999).empty());
    CHECK(p.wait(1) == "pcp ");
    // It asks for what it has.
    CHECK(test::to_hex(TextView(p.last.data() + 40, 4).bytes()) == "1b581b59");
    CHECK(test::to_hex(TextView(p.last.data() + 44, 16).bytes()) == "00000000000000000000ffff2d2d2d01");
    CHECK(p.wait(250) == "pcp ");
    p.hear(pcp_answer("00", "00000258", "00000190"));
    CHECK_FALSE(p.mapper.changed());
    CHECK(p.mapper.deadline() == p.now + Duration::seconds(300));
    p.mapper.close(p.now);
    CHECK(p.mapper.state() == Mapper::State::closing);
    CHECK(p.wait(0) == "pcp ");
    CHECK(test::to_hex(TextView(p.last.data() + 4, 4).bytes()) == "00000000");
    p.hear(pcp_answer("00", "00000000", "00000191"));
    CHECK(p.mapper.state() == Mapper::State::closed);
    CHECK(p.mapper.deadline() == TimePoint::never());
}

TEST_CASE("a gateway that speaks only NAT-PMP says so, and is asked that at once; a silent one soon") {
    Played p;
    p.sent();
    p.hear("00 81 0001 00000000");
    CHECK(p.sent() == "map address ");
    p.hear("00 82 0000 00000064 1b58 1b58 00000258");
    CHECK(p.mapper.state() == Mapper::State::mapped);
    CHECK_FALSE(p.mapper.external().valid());
    p.mapper.changed();
    p.hear("00 80 0000 00000064 2d2d2d01");
    CHECK(p.mapper.changed());
    CHECK(text(to_text(p.mapper.external())) == "45.45.45.1:7000");
    p.mapper.close(p.now);
    CHECK(p.wait(0) == "map ");
    CHECK(test::to_hex(TextView(p.last).bytes()) == test::hex("00 02 0000 1b58 0000 00000000"));
    CHECK(p.wait(1000).empty());
    CHECK(p.mapper.state() == Mapper::State::closed);  // without an answer too

    Played silent;
    CHECK(silent.sent() == "pcp ");
    CHECK(silent.wait(40) == "map address ");
    CHECK(silent.wait(40) == "search@192.168.7.1:1900 ");
    CHECK(silent.wait(100) == "search@239.255.255.250:1900 search@192.168.7.1:1900 search@239.255.255.250:1900 search@192.168.7.1:1900 ");
    CHECK(silent.wait(70) == "pcp ");
    CHECK(silent.mapper.state() == Mapper::State::asking);
    for (int i = 0; i < 100 && silent.mapper.state() == Mapper::State::asking; ++i) silent.wait(50);
    CHECK(silent.mapper.state() == Mapper::State::failed);
    CHECK(silent.mapper.error() == Errc::unsupported);
    CHECK(silent.mapper.changed());
    CHECK(silent.wait(600'000) == "pcp ");  // and once more, after ten minutes
}

TEST_CASE("UPnP: found, described, asked for its address, and for the port") {
    Played p;
    p.sent();
    p.mapper.refused(p.now);  // nobody listens at 5351
    CHECK(p.sent().substr(0, 7) == "search@");
    p.find("http://192.168.7.99:5000/root.xml");        // somebody else's
    p.find("http://192.168.7.1:5000/root.xml", other);  // from somebody else
    CHECK(p.sent().empty());
    p.find("http://192.168.7.1:5000/root.xml");
    CHECK(p.sent() == "get ");
    CHECK(p.last == "GET /root.xml HTTP/1.1\r\nHost: 192.168.7.1:5000\r\nConnection: close\r\n\r\n");
    p.mapper.http(http(description), p.now);
    CHECK(p.sent() == "GetExternalIPAddress ");
    p.mapper.http(http(soap("<u:R><NewExternalIPAddress>45.45.45.1</NewExternalIPAddress></u:R>")), p.now);
    CHECK(p.sent() == "AddAnyPortMapping ");
    CHECK(p.last.find("<NewLeaseDuration>600</NewLeaseDuration>") != std::string::npos);
    p.mapper.http(http(soap("<s:Fault><errorCode>725</errorCode></s:Fault>"), 500), p.now);
    CHECK(p.sent() == "AddAnyPortMapping ");
    CHECK(p.last.find("<NewLeaseDuration>0</NewLeaseDuration>") != std::string::npos);
    p.mapper.http(http(soap("<s:Fault><errorCode>718</errorCode></s:Fault>"), 500), p.now);
    CHECK(p.sent() == "AddAnyPortMapping ");
    CHECK(p.last.find("<NewExternalPort>7001</NewExternalPort>") != std::string::npos);
    p.mapper.http(http(soap("<u:R><NewReservedPort>7005</NewReservedPort></u:R>")), p.now);
    CHECK(p.mapper.state() == Mapper::State::mapped);
    CHECK(p.mapper.method() == Method::upnp);
    CHECK(text(to_text(p.mapper.external())) == "45.45.45.1:7005");
    CHECK(p.wait(300'000) == "AddAnyPortMapping ");  // although it would stay for ever
    p.mapper.http(Result<upnp::HttpAnswer>(Errc::timed_out), p.now);
    CHECK(p.mapper.state() == Mapper::State::mapped);
    CHECK(p.wait(150'000) == "AddAnyPortMapping ");
    p.mapper.http(http(soap("<u:R><NewReservedPort>7005</NewReservedPort></u:R>")), p.now);
    p.mapper.close(p.now);
    CHECK(p.sent() == "DeletePortMapping ");
    CHECK(p.last.find("<NewExternalPort>7005</NewExternalPort>") != std::string::npos);
    p.mapper.http(http(soap("")), p.now);
    CHECK(p.mapper.state() == Mapper::State::closed);
}

TEST_CASE("IPv6: a pinhole by PCP, or by UPnP, found at the gateway's other address, and asked for by who is to be reached") {
    const auto v6 = *IpAddress::parse("2001:db8::2");
    auto router = *IpAddress::parse("fe80::1");
    router.scope = 3;
    Played p(router, v6, gateway);
    CHECK(p.sent() == "pcp ");
    CHECK(p.wait(80).substr(0, 7) == "search@");  // NAT-PMP knows no IPv6
    p.find("http://192.168.7.1:5000/root.xml");
    CHECK(p.sent() == "get ");
    p.mapper.http(http(description), p.now);
    CHECK(p.sent() == "AddPinhole ");
    CHECK(p.sent_to == Endpoint(router, 5000));
    CHECK(p.sent_from == v6);
    CHECK(p.last.find("\r\nHost: [fe80::1]:5000\r\n") != std::string::npos);
    CHECK(p.last.find("<InternalClient>2001:db8::2</InternalClient><InternalPort>7000</InternalPort><Protocol>6</Protocol>") !=
          std::string::npos);
    p.mapper.http(http(soap("<u:R><UniqueID>42</UniqueID></u:R>")), p.now);
    CHECK(p.mapper.state() == Mapper::State::mapped);
    CHECK(text(to_text(p.mapper.external())) == "[2001:db8::2]:7000");
    CHECK(p.wait(300'000) == "UpdatePinhole ");
    p.mapper.http(http(soap("")), p.now);
    p.mapper.close(p.now);
    CHECK(p.sent() == "DeletePinhole ");
    CHECK(p.last.find("<UniqueID>42</UniqueID>") != std::string::npos);

    Played deaf(router, v6, gateway);  // which hears nobody over IPv6
    deaf.wait(80);
    deaf.find("http://192.168.7.1:5000/root.xml");
    deaf.sent();
    deaf.mapper.http(http(description), deaf.now);
    CHECK(deaf.sent() == "AddPinhole ");
    deaf.mapper.http(Errc::timed_out, deaf.now);
    CHECK(deaf.sent() == "AddPinhole ");
    CHECK(deaf.sent_to == Endpoint(gateway, 5000));
    CHECK(deaf.sent_from.family == Family::none);
    deaf.mapper.http(http(soap("<u:R><UniqueID>42</UniqueID></u:R>")), deaf.now);
    CHECK(deaf.mapper.state() == Mapper::State::mapped);
}

TEST_CASE("answers of nobody's, late, twice, for another port, with lifetimes of zero and of for ever change nothing, or are borne") {
    Played p;
    p.sent();
    p.hear(pcp_answer(), Endpoint(other, pcp_port));
    p.hear(pcp_answer(), Endpoint(gateway, 5352));
    p.hear(pcp_answer("00", "00000258", "00000064", "1b59"));  // for 7001
    for (const char* garbage : {"", "02", "ff ff ff ff ff ff ff ff", "02 81 00 00 ffffffff"}) p.hear(garbage);
    CHECK(p.mapper.state() == Mapper::State::asking);
    p.hear(pcp_answer("00", "00000000"));  // granted for no time at all
    CHECK(p.mapper.state() == Mapper::State::asking);
    CHECK(p.sent() == "map address ");
    p.hear("00 82 0000 00000064 1b58 1b58 ffffffff");
    CHECK(p.mapper.state() == Mapper::State::mapped);
    CHECK(p.mapper.deadline() == p.now + Duration::seconds(300));  // for ever is looked after too
    p.mapper.changed();
    p.hear("00 82 0000 00000064 1b58 1b58 ffffffff");  // twice
    p.hear(pcp_answer());                              // late, by another way
    CHECK_FALSE(p.mapper.changed());
    CHECK(p.mapper.method() == Method::nat_pmp);
    // The gateway was restarted: it says so with whatever it says.
    p.now = p.now + Duration::seconds(100);
    p.hear("00 80 0000 00000001 2d2d2d01");
    p.mapper.changed();
    CHECK(p.wait(0) == "map address ");
    p.hear("00 82 0002 00000002");  // and does not grant it any more
    CHECK(p.mapper.state() == Mapper::State::asking);
    CHECK(p.mapper.changed());
}

TEST_CASE("a gateway that says it was restarted is asked anew, not by everybody at once (RFC 6887, 14.1; RFC 6886, 3.2.1)") {
    CHECK(*pcp::decode_announce(test::from_hex("02 80 0000 00000000 00000001 00000000 00000000 00000000")) == 1);
    for (const char* bad :
         {"", "02 80 0000", "01 80 0000 00000000 00000001 00000000 00000000 00000000",
          "02 00 0000 00000000 00000001 00000000 00000000 00000000", "02 81 0000 00000000 00000001 00000000 00000000 00000000",
          "02 80 0001 00000000 00000001 00000000 00000000 00000000", "02 80 0000 00000000 00000001 00000000 00000000 000000"})
        CHECK(pcp::decode_announce(test::from_hex(bad)).error() == Errc::malformed);
    const auto announce = [](const char* epoch) {
        return test::from_hex(std::string("02 80 0000 00000000 ") + epoch + std::string(24, '0'));
    };
    const auto address = [](const char* epoch) { return test::from_hex(std::string("00 80 0000 ") + epoch + " 2d2d2d02"); };

    Played p;
    p.sent();
    p.hear(pcp_answer());
    p.mapper.changed();
    const TimePoint half = p.mapper.deadline();
    p.now = p.now + Duration::seconds(100);
    p.mapper.announced(gateway, announce("000000c8"), p.now);  // it was 100, and 100 seconds have gone
    p.mapper.announced(other, announce("00000001"), p.now);
    p.mapper.announced(gateway, test::from_hex("ff"), p.now);
    CHECK(p.mapper.deadline() == half);
    p.mapper.announced(gateway, announce("00000001"), p.now);
    CHECK(p.mapper.deadline() < p.now + Duration::seconds(5));
    CHECK(p.wait(5000) == "pcp ");
    p.hear(pcp_answer("00", "00000258", "00000006"));
    CHECK_FALSE(p.mapper.changed());  // it is as it was
    CHECK(p.mapper.deadline() == p.now + Duration::seconds(300));

    Played by_nat_pmp;
    by_nat_pmp.sent();
    by_nat_pmp.hear("00 81 0001 00000000");
    by_nat_pmp.sent();
    by_nat_pmp.hear("00 82 0000 00000064 1b58 1b58 00000258");
    by_nat_pmp.hear("00 80 0000 00000064 2d2d2d01");
    by_nat_pmp.mapper.changed();
    by_nat_pmp.mapper.announced(gateway, address("00000001"), by_nat_pmp.now);
    CHECK(by_nat_pmp.mapper.changed());  // it has another address, at once
    CHECK(text(to_text(by_nat_pmp.mapper.external())) == "45.45.45.2:7000");
    CHECK(by_nat_pmp.wait(5000) == "map address ");

    Played nobody;  // a gateway that did not answer, and does now
    nobody.sent();
    for (int i = 0; i < 100 && nobody.mapper.state() == Mapper::State::asking; ++i) nobody.wait(50);
    REQUIRE(nobody.mapper.state() == Mapper::State::failed);
    nobody.mapper.announced(gateway, announce("00000001"), nobody.now);
    CHECK(nobody.wait(5000) == "pcp ");
}

TEST_CASE("what may be granted after it is closed is taken back too") {
    Played p;
    p.wait(40);
    p.wait(40);
    p.find("http://192.168.7.1:5000/root.xml");
    p.sent();
    p.mapper.http(http(description), p.now);
    p.sent();
    p.mapper.http(http(soap("<u:R><NewExternalIPAddress>45.45.45.1</NewExternalIPAddress></u:R>")), p.now);
    CHECK(p.sent() == "AddAnyPortMapping ");
    p.mapper.close(p.now);
    CHECK(p.mapper.state() == Mapper::State::closing);
    CHECK(p.wait(0) == "pcp map ");
    p.hear(pcp_answer("00", "00000258"));  // the first answer, late
    CHECK(p.mapper.state() == Mapper::State::closing);
    p.hear(pcp_answer("00", "00000000"));
    p.hear("00 82 0000 00000064 1b58 0000 00000000");
    CHECK(p.sent().empty());
    p.mapper.http(http(soap("<u:R><NewReservedPort>7003</NewReservedPort></u:R>")), p.now);
    CHECK(p.sent() == "DeletePortMapping ");
    CHECK(p.last.find("<NewExternalPort>7003</NewExternalPort>") != std::string::npos);
    CHECK(p.mapper.state() == Mapper::State::closing);
    p.mapper.http(http(soap("")), p.now);
    CHECK(p.mapper.state() == Mapper::State::closed);

    Played refused;  // there was nothing to take back
    refused.wait(40);
    refused.mapper.close(refused.now);
    refused.mapper.refused(refused.now);
    CHECK(refused.mapper.state() == Mapper::State::closed);

    Played quick;  // not even asked
    quick.mapper.close(quick.now);
    CHECK(quick.mapper.state() == Mapper::State::closing);  // by PCP it was to be asked at once
    quick.wait(1000);
    CHECK(quick.mapper.state() == Mapper::State::closed);
}

TEST_CASE("another gateway is asked anew, and a mapping that nobody renews is over") {
    Played p;
    p.sent();
    p.hear(pcp_answer());
    p.mapper.moved(other, local, {}, p.now);
    CHECK(p.mapper.state() == Mapper::State::asking);
    CHECK(p.sent() == "pcp ");
    p.hear(pcp_answer());  // the old one's
    CHECK(p.mapper.state() == Mapper::State::asking);
    p.hear(pcp_answer(), Endpoint(other, pcp_port));
    CHECK(p.mapper.state() == Mapper::State::mapped);
    p.mapper.changed();
    for (int i = 0; i < 100'000 && p.mapper.state() == Mapper::State::mapped; ++i) {
        p.now = p.mapper.deadline();
        p.mapper.advance(p.now);
        p.sent();
    }
    CHECK(p.mapper.state() == Mapper::State::asking);
    CHECK(p.mapper.changed());
}
