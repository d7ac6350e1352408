// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

/// Pairs of benchmarks of bytes a second, ours and a peer's, run interleaved in one process; prints both medians and their ratio beside the
/// bar, which the ratio must reach.
class Ratios {
public:
    Ratios(int& argc, char** argv) { benchmark::Initialize(&argc, argv); }

    void compare(const std::string& what, void (*ours)(benchmark::State&), void (*peer)(benchmark::State&), int argument,
                 const std::string& peer_name, double bar) {
        pairs_.push_back({what, peer_name, ours, peer, argument, bar});
    }

    /// The exit status: 0 when every bar is reached.
    int run(int repetitions = 9) {
        // Random interleaving, so that what else the machine does meets both sides alike.
        benchmark::ClearRegisteredBenchmarks();
        for (int i = 0; i < repetitions; ++i)
            for (const Pair& pair : pairs_) {
                add(pair.what + "|rejoin", pair.ours, pair.argument);
                add(pair.what + "|" + pair.peer_name, pair.peer, pair.argument);
            }
        Collector collector;
        benchmark::RunSpecifiedBenchmarks(&collector);
        bool held = true;
        for (const Pair& pair : pairs_) {
            const double ours = median(collector.seen[pair.what + "|rejoin"]);
            const double peer = median(collector.seen[pair.what + "|" + pair.peer_name]);
            const bool ok = peer > 0 && ours / peer >= pair.bar;
            held = held && ok;
            std::printf("%-28s rejoin %8.1f MB/s   %s %8.1f MB/s   ratio %5.2f  (bar: at least %.2f)  %s\n", pair.what.c_str(), ours / 1e6,
                        pair.peer_name.c_str(), peer / 1e6, ours / peer, pair.bar, ok ? "held" : "MISSED");
        }
        return held ? 0 : 1;
    }

private:
    struct Pair {
        std::string what, peer_name;
        void (*ours)(benchmark::State&);
        void (*peer)(benchmark::State&);
        int argument;
        double bar;
    };
    struct Collector : benchmark::BenchmarkReporter {
        bool ReportContext(const Context&) override { return true; }
        void ReportRuns(const std::vector<Run>& runs) override {
            for (const Run& run : runs)
                if (!run.error_occurred && run.run_type == Run::RT_Iteration) {
                    const auto name = run.run_name.function_name;
                    seen[name].push_back(run.counters.at("bytes_per_second").value);
                }
        }
        std::map<std::string, std::vector<double>> seen;
    };
    static void add(const std::string& name, void (*f)(benchmark::State&), int argument) {
        benchmark::RegisterBenchmark(name.c_str(), f)->Arg(argument)->Iterations(1)->UseRealTime();
    }
    static double median(std::vector<double> values) {
        if (values.empty()) return 0;
        std::sort(values.begin(), values.end());
        return values[values.size() / 2];
    }
    std::vector<Pair> pairs_;
};
