// --data_debug_path: the first training samples in a form for people to look at.
#pragma once

#include <string>

#include "data/image_preprocess.h"
#include "data/order.h"
#include "data/sample_builder.h"
#include "data/tokenizer.h"

namespace facet {

// Where the samples come from and what prepares them.
struct DebugSources {
  const SampleTable& table;
  const SampleBuilder& builder;
  const Tokenizer& tokenizer;
  const ImagePreprocessor& preprocessor;
  int64_t max_images = 0;
  int64_t max_image_pixels = 0;
};

// Writes the first `count` samples of the first epoch, fewer where there are fewer:
// DIRECTORY/sample-K.txt with rounds, tokens and labels (or what makes it a bad sample), and
// DIRECTORY/sample-K-image-I.png, the pixels that the vision encoder reads, before normalisation.
void write_debug_samples(const std::string& directory, const DebugSources& sources, int64_t count);

}  // namespace facet
