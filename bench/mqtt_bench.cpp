// SPDX-License-Identifier: BSL-1.0
// MQTT framing beside memcpy of the same bytes: PUBLISH to bytes, and from bytes with every check on. Medians of interleaved rounds.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <rejoin/signal.hpp>
#include <vector>

namespace {

using namespace rejoin;
using namespace rejoin::mqtt;

constexpr int rounds = 41, calls = 200'000;
constexpr char topic[] = "0123456789abcdef/0123456789abcde";  // 32 bytes
alignas(64) std::byte out[8192], in[12 * 1024];

template <class T>
void keep(T&& value) {
    asm volatile("" : : "g"(&value) : "memory");
}
// Nanoseconds a call.
template <class F>
double timed(F f) {
    const TimePoint before = monotonic_now();
    for (int i = 0; i < calls; ++i) f();
    return static_cast<double>((monotonic_now() - before).nanoseconds()) / calls;
}
double median(std::vector<double>& values) {
    std::nth_element(values.begin(), values.begin() + rounds / 2, values.end());
    return values[rounds / 2];
}
bool print(const char* what, std::size_t payload, double ours, const char* peer, double theirs, double bar, double value,
           const char* unit) {
    const bool held = value <= bar;
    std::printf("%s, payload of %4zu bytes: %6.2f ns, %s %6.2f ns: %.2f %s  (bar: at most %.1f)  %s\n", what, payload, ours, peer, theirs,
                value, unit, bar, held ? "held" : "MISSED");
    return held;
}

}  // namespace

int main() {
    bool held = true;
    for (const std::size_t payload : {std::size_t{64}, std::size_t{4096}}) {
        Publish publish;
        publish.topic = topic;
        publish.payload = Bytes(in + 1600, payload);  // not at the same place of a page as where it goes
        std::size_t size = size_of(Version::v3_1_1, publish);
        Decoder decoder(Version::v3_1_1, 1 << 20);
        const std::byte connack[] = {std::byte{0x20}, std::byte{2}, {}, {}};
        Packet packet;
        Bytes from(connack);
        if (!decoder.next(from, packet)) return 1;

        std::vector<double> copying, copying_100, encoding, decoding;
        for (int round = 0; round < rounds; ++round) {
            copying.push_back(timed([&] {
                asm volatile("" : "+r"(size));
                std::memcpy(out, in + 1600, size);
                keep(out);
            }));
            encoding.push_back(timed([&] {
                asm volatile("" : "+m"(publish));
                if (size_of(Version::v3_1_1, publish) > sizeof out) std::abort();
                keep(*write(out, Version::v3_1_1, publish));
            }));
            std::size_t hundred = 100;
            copying_100.push_back(timed([&] {
                asm volatile("" : "+r"(hundred));
                std::memcpy(in + 10'000, in, hundred);
                keep(in);
            }));
            decoding.push_back(timed([&] {
                asm volatile("" : "+r"(size));
                Bytes bytes(out, size);
                if (!decoder.next(bytes, packet)) std::abort();
                keep(packet);
            }));
        }
        const double copy_ns = median(copying), encode_ns = median(encoding), decode_ns = median(decoding);
        held = print("encode", payload, encode_ns, "memcpy of as much", copy_ns, payload == 64 ? 1.5 : 1.1, encode_ns / copy_ns, "times") &&
               held;
        held = print("decode", payload, decode_ns, "memcpy of 100 bytes", median(copying_100), 25, decode_ns, "ns") && held;
    }
    return held ? 0 : 1;
}
