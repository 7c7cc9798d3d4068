#include "zero/host_values.h"

#include <algorithm>
#include <vector>

#include "base/check.h"
#include "base/half.h"

namespace facet {
namespace {

// Calls body(begin, count, words) for blocks of n 16-bit words, with a host buffer for each.
template <typename Body>
void in_blocks(int64_t n, const Body& body) {
  constexpr int64_t kBlock = int64_t{1} << 20;
  std::vector<uint16_t> words(static_cast<size_t>(std::min(n, kBlock)));
  for (int64_t begin = 0; begin < n; begin += kBlock)
    body(begin, std::min(kBlock, n - begin), words.data());
}

void check_lengths(const Tensor& kept, const Tensor& host) {
  ASSERT(kept.numel() == host.numel() && host.space() == Space::kHost, "{} values, {} on the host",
         kept.numel(), host.numel());
}

}  // namespace

void store_values(Backend& ops, const Tensor& kept, const Tensor& host) {
  check_lengths(kept, host);
  if (host.numel() == 0) return;
  if (kept.space() == Space::kHost) return ops.copy(kept, host);
  if (kept.dtype() == DType::kF32) return ops.copy_from_host(kept, host.raw());
  in_blocks(host.numel(), [&](int64_t begin, int64_t count, uint16_t* words) {
    round_to_16_bits(words, host.f32() + begin, count, kept.dtype());
    ops.copy_from_host(kept.range(begin, count), words);
  });
}

void read_values(Backend& ops, const Tensor& host, const Tensor& kept) {
  check_lengths(kept, host);
  if (host.numel() == 0) return;
  if (kept.space() == Space::kHost) return ops.copy(host, kept);
  if (kept.dtype() == DType::kF32) return ops.copy_to_host(host.raw(), kept);
  in_blocks(host.numel(), [&](int64_t begin, int64_t count, uint16_t* words) {
    ops.copy_to_host(words, kept.range(begin, count));
    for (int64_t i = 0; i < count; ++i)
      host.f32()[begin + i] = float_from_16_bits(words[i], kept.dtype());
  });
}

}  // namespace facet
