#include "train/bandwidth.h"

#include <fmt/format.h>

#include "base/printable.h"
#include "train/run_costs.h"

namespace facet {

namespace {

std::string cells(const AllReduceRate& rate) {
  if (rate.ranks == 0) return fmt::format("{:>10}", "-");
  return fmt::format("{:>10.3g}", rate.busbw());
}

std::string fields(const AllReduceRate& rate) {
  return fmt::format("ranks={} bytes={} seconds={:.6g} algbw={:.4g} busbw={:.4g}", rate.ranks,
                     rate.bytes, rate.seconds, rate.algbw(), rate.busbw());
}

std::string tables(const BandwidthReport& report) {
  std::string text = fmt::format("all-reduce by {}, GB/s; busbw = algbw x 2(n-1)/n\n", report.by);
  text +=
      fmt::format("  {:>12}{:>8}{:>12}{:>10}{:>10}", "size", "ranks", "seconds", "algbw", "busbw");
  for (const AllReduceRate& rate : report.all)
    text += fmt::format("\n  {:>12}{:>8}{:>12.3g}{:>10.3g}{:>10.3g}", bytes_text(rate.bytes),
                        rate.ranks, rate.seconds, rate.algbw(), rate.busbw());
  if (report.hosts.size() < 2) return text;
  text += "\n  busbw of each host's own ranks, and of them together with those of another host";
  text += fmt::format("\n  {:<16}{:>10}{:>10}", "host", "alone", "together");
  for (const HostRates& host : report.hosts)
    text += fmt::format("\n  {:<16}{}{}  with {}", printable(host.host), cells(host.alone),
                        cells(host.with_other), printable(host.other));
  return text;
}

}  // namespace

std::string bandwidth_text(const BandwidthReport& report) {
  std::string text = tables(report);
  const auto add = [&](const std::string& what, const AllReduceRate& rate) {
    if (rate.ranks > 0)
      text += fmt::format("\nBANDWIDTH by={} {} {}", report.by, what, fields(rate));
  };
  for (const AllReduceRate& rate : report.all) add("of=all", rate);
  for (const HostRates& host : report.hosts) {
    const std::string name = printable(host.host);
    add(fmt::format("of=host host={}", name), host.alone);
    add(fmt::format("of=pair host={} other={}", name, printable(host.other)), host.with_other);
  }
  return text;
}

}  // namespace facet
