// The two passes of a resize, in Pillow's fixed point: each value is a sum of weight * byte in 32
// bits, rounded and clamped to a byte. There is a scalar form and, where the compiler may use AVX2,
// one in vectors; both give the same bytes.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace facet {

enum class ResizeCode : uint8_t { kFastest, kScalar };

// Bits of a weight behind the binary point: 8 of the 32 are the byte's, 2 are headroom.
constexpr int kWeightFractionBits = 32 - 8 - 2;

// Which source pixels contribute to each target pixel along one axis, and with which weights.
struct AxisWeights {
  struct Window {
    int64_t begin, count;
  };
  std::vector<Window> windows;   // (target pixels), in ascending order
  std::vector<int32_t> weights;  // (target pixels, stride)
  int64_t stride = 0;

  int64_t begin() const { return windows.front().begin; }
  int64_t end() const { return windows.back().begin + windows.back().count; }
  // The largest count.
  int64_t longest() const;
  // Counts source pixels from begin() on.
  void shift_to_begin();
};

// Makes each row as wide as the target has pixels.
class HorizontalPass {
 public:
  static constexpr int64_t kRows = 4;     // at a time
  static constexpr int64_t kBehind = 16;  // bytes behind a source row that may be read
  // Bytes that a row of `pixels` needs to be written: the last of them is written and means
  // nothing.
  static int64_t room(int64_t pixels) { return 3 * pixels + 1; }

  HorizontalPass(AxisWeights across, ResizeCode code);

  // rows[i]: (source width, 3) becomes out[i]: (target width, 3), for i < count <= kRows. What lies
  // behind a row does not matter.
  void run(std::array<const uint8_t*, kRows> rows, int64_t count,
           std::array<uint8_t*, kRows> out) const;

 private:
  void run_vectors(const std::array<const uint8_t*, kRows>& rows,
                   const std::array<uint8_t*, kRows>& out) const;

  AxisWeights across_;
  // (target pixels, groups_, 8): for each four source pixels the upper halves of their weights and
  // the lower ones; empty: scalar.
  std::vector<int16_t> packed_;
  int64_t groups_ = 0;
};

// Makes one row of several.
class VerticalPass {
 public:
  // Bytes that a row of so many bytes needs to be read and written.
  static int64_t room(int64_t bytes) { return (bytes + 31) / 32 * 32; }

  explicit VerticalPass(ResizeCode code) : code_(code) {}

  // rows: as many as weights, each of room(bytes) bytes, and so is out.
  void run(const std::vector<const uint8_t*>& rows, const int32_t* weights, int64_t bytes,
           uint8_t* out);

 private:
  ResizeCode code_;
  std::vector<int32_t> sums_;  // scratch
};

}  // namespace facet
