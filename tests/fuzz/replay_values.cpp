// --replay: a sound HDF5 file with any arrays in it. Mutated bytes of a real file (replay.cpp) stop
// at HDF5's own checksums; these reach what the arrays must agree on.
//
// The input is a sequence of arrays: which one, its element type, its number of elements, and one
// byte for each element, -128 and 127 standing for the smallest and the largest number.
#include <array>
#include <limits>
#include <span>
#include <vector>

#include "common/target.h"
#include "data/replay.h"
#include "io/hdf5_file.h"

namespace facet {
namespace {

constexpr std::array kNames = {"version",
                               "ranks",
                               "image_token_id",
                               "image_size",
                               "step",
                               "rank_0/micro_batch_0/token_ids",
                               "rank_0/micro_batch_0/labels",
                               "rank_0/micro_batch_0/sample_begin",
                               "rank_0/micro_batch_0/images_per_sample",
                               "rank_0/micro_batch_0/sample_ids",
                               "rank_0/micro_batch_0/dataset_of_sample",
                               "rank_0/micro_batch_0/pixels",
                               "rank_0/micro_batch_1/token_ids",
                               "rank_0/micro_batch_1/labels",
                               "rank_0/micro_batch_1/sample_begin",
                               "rank_0/micro_batch_1/images_per_sample"};

template <typename T>
T number_of(uint8_t byte) {
  const auto small = static_cast<int8_t>(byte);
  if (small == INT8_MIN) return std::numeric_limits<T>::lowest();
  if (small == INT8_MAX) return std::numeric_limits<T>::max();
  return static_cast<T>(small);
}

template <typename T>
void write_array(Hdf5File& file, const std::string& name, std::span<const uint8_t> bytes) {
  std::vector<T> numbers;
  for (const uint8_t byte : bytes) numbers.push_back(number_of<T>(byte));
  const auto count = static_cast<int64_t>(numbers.size());
  const bool pixels = name.ends_with("pixels");  // (I, 3, 2, 2)
  numbers.resize(numbers.size() * (pixels ? 12 : 1));
  file.write(name, numbers.data(),
             pixels ? std::vector<int64_t>{count, 3, 2, 2} : std::vector{count});
}

void write_file_of(std::span<const uint8_t> bytes, const std::string& path) {
  Hdf5File file = Hdf5File::create(path);
  while (bytes.size() > 3) {
    const std::string name = kNames[bytes[0] % kNames.size()];
    const uint8_t type = bytes[1];
    const size_t count = std::min<size_t>(bytes[2], bytes.size() - 3);
    const auto values = bytes.subspan(3, count);
    bytes = bytes.subspan(3 + count);
    if (file.exists(name)) continue;
    if (type % 3 == 0) write_array<int32_t>(file, name, values);
    if (type % 3 == 1) write_array<int64_t>(file, name, values);
    if (type % 3 == 2) write_array<float>(file, name, values);
  }
  file.close();
}

}  // namespace
}  // namespace facet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace facet;
  const std::string path = fuzz::scratch() + "/batches.h5";
  fuzz::may_refuse([&] { write_file_of({data, size}, path); });
  return fuzz::may_refuse([&] {
    Replay replay(path, 0, 1);
    fuzz::require(replay.num_datasets() >= 1, "no data set");
    for (int64_t step = 0; step < replay.steps_per_epoch(); ++step)
      for (const MicroBatch& batch : replay.fetch_step(0, step))
        fuzz::require(batch.num_samples() >= 0 && batch.num_images() >= 0, "a negative number");
  });
}
