// SPDX-License-Identifier: BSL-1.0
// Runs a fuzz target without libFuzzer: `fuzz_x <mutations> <seed folder>` gives it every seed, and that many mutations of them. All
// chance comes from a fixed number, so that a failure comes again.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

// A block of exactly its size each time, so that a sanitizer sees a read past the end.
static void run(const std::string& input) {
    const std::vector<std::uint8_t> exact(input.begin(), input.end());
    LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    std::vector<std::string> seeds{""};
    if (std::filesystem::exists(argv[2]))
        for (const auto& entry : std::filesystem::directory_iterator(argv[2])) {
            std::ifstream file(entry.path(), std::ios::binary);
            seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
        }
    std::sort(seeds.begin(), seeds.end());
    for (const std::string& seed : seeds) run(seed);

    std::mt19937_64 random(1);
    const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
    const long mutations = std::atol(argv[1]);
    for (long i = 0; i < mutations; ++i) {
        std::string input = seeds[below(seeds.size())];
        for (std::size_t edits = 1 + below(8); edits > 0; --edits) {
            const std::size_t at = below(input.size() + 1);
            const std::string& other = seeds[below(seeds.size())];
            switch (below(5)) {
                case 0:
                    input.insert(at, 1 + below(4), static_cast<char>(below(256)));
                    break;
                case 1:
                    input.replace(at, 1 + below(4), 1 + below(4), static_cast<char>(below(2) * 0xff));  // the ends of every range
                    break;
                case 2:
                    if (at < input.size()) input[at] = static_cast<char>(input[at] ^ 1 << below(8));
                    break;
                case 3:
                    input.erase(at, 1 + below(8));
                    break;
                default:
                    input.insert(at, other, below(other.size() + 1), 1 + below(64));
            }
        }
        run(input);
    }
    std::printf("%zu seeds, %ld mutations\n", seeds.size(), mutations);
}
