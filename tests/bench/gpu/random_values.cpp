#include "tests/bench/gpu/random_values.h"

#include <algorithm>

#include "base/half.h"
#include "base/rng.h"

namespace facet::bench {

namespace {
// No multiple of a matrix's width, so that rows differ; of 16 bytes, so that copies are fast.
constexpr int64_t kNumbers = (int64_t{1} << 22) - 40;
}  // namespace

RandomValues::RandomValues(Backend& ops, float bound)
    : ops_(ops),
      numbers_(static_cast<size_t>(kNumbers)),
      arena_("random numbers", kNumbers * 2 + 64, ops.memory()) {
  RandomStream stream(1, "bench");
  std::vector<uint16_t> words;
  for (float& number : numbers_) {
    const uint16_t word = bf16_from_float(bound * (2 * stream.uniform() - 1));
    words.push_back(word);
    number = float_from_bf16(word);
  }
  on_device_ = arena_.tensor({kNumbers}, DType::kBF16);
  ops_.copy_from_host(on_device_, words.data());
}

void RandomValues::fill(Tensor x) const {
  const int64_t n = x.numel();
  for (int64_t begin = 0; begin < n; begin += kNumbers) {
    const int64_t count = std::min(kNumbers, n - begin);
    ops_.copy(x.range(begin, count), on_device_.range(0, count));
  }
}

void RandomValues::fill(std::span<float> x) const {
  for (size_t begin = 0; begin < x.size(); begin += numbers_.size()) {
    const size_t count = std::min(numbers_.size(), x.size() - begin);
    std::copy_n(numbers_.begin(), count, x.begin() + static_cast<int64_t>(begin));
  }
}

}  // namespace facet::bench
