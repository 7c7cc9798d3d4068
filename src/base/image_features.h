// Vision features of images that are known already, beside those still to be computed from pixels.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace facet {

// Of what an image's features depend on besides the model: a hash of its file.
using ImageKey = std::array<uint64_t, 2>;

// Of I images in the order of their places; all empty where no features are kept.
struct ImageFeatures {
  std::vector<ImageKey> keys;     // (I)
  std::vector<uint8_t> is_given;  // (I) 1: its features are in `values`; 0: its pixels are needed
  std::vector<std::byte> values;  // of those given, in their order, in the type of activations

  bool gives(int64_t image) const {
    return !is_given.empty() && is_given[static_cast<size_t>(image)] != 0;
  }
  int64_t num_given() const { return std::count(is_given.begin(), is_given.end(), uint8_t{1}); }
  void clear() {
    keys.clear();
    is_given.clear();
    values.clear();
  }
};

// Is told what became of the images of a micro-batch.
class FeatureSink {
 public:
  virtual ~FeatureSink() = default;
  virtual void given(int64_t images) = 0;
  // In host memory, valid during the call.
  virtual void computed(const ImageKey& key, std::span<const std::byte> features) = 0;
};

}  // namespace facet
