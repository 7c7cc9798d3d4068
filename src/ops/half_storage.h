// 16-bit storage over a backend that computes in fp32: bf16 and fp16 operands are widened into fp32
// panels, the backend below works on the panels, and every output is rounded once on its way back.
// It owns no arithmetic: the conversions are copy() of the backend below, and operands that are
// fp32 already pass through.
//
// Panels are scratch, and their size is measured, not grown in a step: over a NullBackend and with
// measuring arenas, panel_bytes() is what the same calls will need.
//
//   NullBackend nothing;
//   HalfStorage measured(nothing);
//   ... run the step on `measured` ...
//   HalfStorage ops(cpu, measured.panel_bytes());
//
// Weights of linear_few_rows_forward(), and keys and values of attention_forward(), have no panels:
// the backend below reads them as they are.
//
// A panel is never as large as a matrix of the model: products go through a block of outputs at a
// time, token-wise operators through a block of rows, which a cache holds. A panel is memory of its
// own, so operands may be each other's memory wherever ops.h allows it.
#pragma once

#include <initializer_list>

#include "device/arena.h"
#include "ops/ops.h"

namespace facet {

class HalfStorage final : public Backend {
 public:
  explicit HalfStorage(Backend& below);  // measures
  // Computes, with panels of that many bytes in one call.
  HalfStorage(Backend& below, int64_t panel_bytes);

  MemoryResource& memory() override { return below_.memory(); }
  void set_decoding(bool decodes) override { below_.set_decoding(decodes); }

  int64_t panel_bytes() const { return panels_.peak(); }  // the most that a call took

 private:
  FACET_OPERATORS(FACET_OVERRIDE_OPERATOR)

  void compute_downs(const Tensor& x, std::span<const LoraDown> downs);

  class Call;
  struct Block;
  // body(call, block) for blocks of the operands' rows.
  template <typename Body>
  void in_row_blocks(std::initializer_list<Tensor> operands, const Body& body);
  // The same for blocks of the outputs O of a weight (O,I).
  template <typename Body>
  void in_output_blocks(std::initializer_list<Tensor> operands, int64_t outputs, int64_t inputs,
                        const Body& body);
  template <typename Body>
  void in_blocks(int64_t total, int64_t step, const Body& body);

  Backend& below_;
  Arena panels_;
};

}  // namespace facet
