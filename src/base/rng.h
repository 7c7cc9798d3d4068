// Counter-based random streams: a draw is a pure function of (seed, purpose, a, b, index), so that
// data order, grouping and initial weights are the same on any number of ranks and after any
// resume. Generator: Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3",
// SC 2011).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace facet {

// One block of Philox4x32-10: 128 random bits of a 128-bit counter and a 64-bit key.
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// A stable 64-bit hash of a name (FNV-1a), to key a stream by a parameter's or a purpose's name.
uint64_t hash_name(std::string_view name);

// A stream of draws. Two streams with different (seed, purpose, a, b) are independent; the same
// four give the same draws on every machine. `purpose` is a short fixed word such as "order" or
// "question".
class RandomStream {
 public:
  RandomStream(uint64_t seed, std::string_view purpose, uint64_t a = 0, uint64_t b = 0);

  uint32_t next_u32();
  uint64_t next_u64();
  // Uniform in [0, bound), without bias. bound >= 1.
  uint64_t below(uint64_t bound);
  // Uniform in [0, 1) with 24 and 53 random bits.
  float uniform();
  double uniform_double();
  // Standard normal (Box-Muller on two uniforms; draws come in pairs).
  double normal();

 private:
  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 4> counter_;
  std::array<uint32_t, 4> block_{};
  int used_ = 4;
  double spare_normal_ = 0;
  bool has_spare_ = false;
};

// A random permutation of 0..n-1 (Fisher-Yates).
std::vector<int64_t> random_permutation(int64_t n, RandomStream stream);

}  // namespace facet
