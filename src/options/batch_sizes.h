// The three batch numbers of a DeepSpeed configuration:
//   train_batch_size = train_micro_batch_size_per_gpu * gradient_accumulation_steps * ranks
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace facet {

struct BatchSizes {
  std::optional<int64_t> train_batch_size;
  std::optional<int64_t> micro_batch_size;    // train_micro_batch_size_per_gpu
  std::optional<int64_t> accumulation_steps;  // gradient_accumulation_steps
};

// Any two give the third; train_batch_size or micro_batch_size alone means one micro-batch per
// step; nothing given leaves all three empty. Returns what is wrong, with the arithmetic and the
// nearest numbers that fit, or nothing.
std::string resolve_batch_sizes(BatchSizes& sizes, int64_t ranks);

}  // namespace facet
