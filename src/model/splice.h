// Splicing images into text (docs/computes.md, "Splicing") on the host: which row of the packed
// sequence comes from where, of which kind and position it is, and which rows predict a label.
//
// With MMCA a sample's rows are sorted by kind, first its text, then its image tokens, so that what
// attention reads of a kind lies together; else they lie in the order of their positions. The order
// of rows is the decoder's own affair: results leave the model by position or by label.
#pragma once

#include <cstdint>
#include <vector>

#include "base/micro_batch.h"
#include "model/config.h"
#include "ops/attention_plan.h"

namespace facet {

// N rows of all samples, back to back; each image place has become S rows.
struct SplicedBatch {
  std::vector<int32_t> sample_begin;  // (B+1) sample b owns rows [sample_begin[b], [b+1])
  std::vector<int32_t> source;        // (N) token id, or -1-j for row j of the image tokens
  std::vector<TokenKind> kinds;       // (N)
  std::vector<int32_t> positions;     // (N) in the sample, from 0
  // (R) increasing rows whose hidden states predict a label, that of the next position, and these
  // labels.
  std::vector<int32_t> target_rows, target_labels;
  std::vector<int64_t> labelled;  // (B) labels per sample

  int64_t rows() const { return static_cast<int64_t>(source.size()); }
  int64_t targets() const { return static_cast<int64_t>(target_rows.size()); }
  void clear();
  // rows (N): the row of each position, sample by sample.
  void rows_by_position(std::vector<int32_t>& rows) const;
};

// Checks the micro-batch against the model's shapes; a mismatch is Error(kBadData) that names the
// sample.
void splice(SplicedBatch& spliced, const MicroBatch& batch, const VlmConfig& config);

}  // namespace facet
