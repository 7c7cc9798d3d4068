// How long a sample is in the decoder and how many operations it takes, from its text alone: what
// the samples of a step are dealt to the ranks by.
#pragma once

#include <cstdint>

#include "data/sample_builder.h"

namespace facet {

// A sample after splicing.
struct SampleShape {
  int64_t rows = 0;            // L: tokens of its text and of its images
  int64_t images = 0;          // I
  int64_t labels = 0;          // positions that a label is predicted at
  int64_t pairs = 0;           // (query, key) with a score in the decoder, of each head
  int64_t labelled_pairs = 0;  // those of queries that a label is predicted at
};

// Floating-point operations of a sample's forward and backward pass: what the operators count
// (ops/ops.h) is linear in its shape.
struct WorkModel {
  int64_t of_row = 0, of_image = 0, of_label = 0;
  int64_t of_pair = 0, of_labelled_pair = 0;  // in the last layer only labelled rows are queries

  int64_t image_tokens = 1;   // S
  bool images_apart = false;  // MMCA: an image's positions see only themselves

  SampleShape shape(const PreparedSample& text, int32_t image_token_id) const;
  int64_t operations(const SampleShape& shape) const;
};

}  // namespace facet
