// Bars of one colour on two sides of an image, which make a square of it: expand2square of LLaVA,
// `do_pad` of Transformers' LlavaImageProcessor.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "data/image.h"

namespace facet {

// Hands the rows of the square on to a sink, a few at a time.
class SquarePadding : public RowSink {
 public:
  // The sink must outlive it.
  SquarePadding(RowSink& sink, std::array<uint8_t, 3> colour) : sink_(sink), colour_(colour) {}

  Region begin(int64_t width, int64_t height) override;
  void add(const uint8_t* rows, int64_t stride, int64_t count) override;

 private:
  static constexpr int64_t kRows = 16;  // handed on at a time

  void add_bar(int64_t rows);

  RowSink& sink_;
  std::array<uint8_t, 3> colour_;
  Region wanted_;                    // of the square
  Region inner_;                     // what of that is the image's, in the square
  int64_t rows_in_ = 0;              // of inner_
  std::vector<uint8_t> bar_, rows_;  // (kRows, wanted_.width, 3)
};

}  // namespace facet
