// What a stage costs per rank, computed before any memory is allocated: bytes by kind, and elements
// sent to other ranks.
#pragma once

#include <cstdint>
#include <vector>

#include "nn/context.h"
#include "nn/param_table.h"
#include "zero/residency.h"
#include "zero/unit_pool.h"

namespace facet {

struct EngineOptions;

struct ZeroBytes {
  int64_t values = 0;          // parameters that the rank keeps
  int64_t gradients = 0;       // gradients that it keeps through the step
  int64_t optimizer = 0;       // moments; with 16 bits, or offloaded, the masters too
  int64_t staging = 0;         // chunks of what is offloaded, on their way
  int64_t uploads = 0;         // on the device: slices of offloaded parameters, to be gathered
  int64_t values_on_host = 0;  // of `values`: what is offloaded
  int64_t window = 0;          // one unit in fp32, while values are filled or read
};
// Moments of the elements a rank updates.
int64_t moment_bytes(const ParamTable& table, int ranks, int64_t zero_stage);
// The table must come from Engine::lay_out.
ZeroBytes planned_bytes(const ParamTable& table, int ranks, const EngineOptions& options);
// Elements of each unit, with padding, that a use of it gathers; 0: it is whole on every rank.
std::vector<int64_t> gathered_elements(const ParamTable& table, int ranks,
                                       const EngineOptions& options);
// Trained elements of one rank's slices with padding: its share of a checkpoint.
int64_t owned_elements(const ParamTable& table, int ranks);

// Replaces the engine while a pass is measured (NullBackend), to find what depends on the order in
// which the model uses its units.
class MeasuringHooks : public UnitHooks, private UnitGatherer {
 public:
  MeasuringHooks(const ParamTable& table, int ranks, const EngineOptions& options);

  void before(int unit, Phase phase) override;
  void after(int unit, Phase phase) override;
  void gradients_ready(int unit) override;

  // Peak bytes of the pools: gathered values; full gradients together with the buckets.
  int64_t gathered_bytes() const { return values_.bytes(); }
  int64_t bucket_bytes() const;
  // How often each unit is gathered in one forward and backward pass.
  std::vector<int64_t> gathers_per_micro_batch() const;

 private:
  void gather(int unit) override;
  void start_gather(int unit) override { gather(unit); }
  void finish_gather(int) override {}
  void drop_gathered(int unit) override;
  void acquire_gradients(int unit);

  const ParamTable& table_;
  int ranks_;
  const EngineOptions& options_;
  std::vector<int64_t> elements_;  // per unit, gathered; 0: persistent
  Residency residency_;
  UnitPool values_, gradients_;
  std::vector<int> value_buffers_, gradient_buffers_;  // per unit
  std::vector<int64_t> gathers_;                       // per unit, in all passes
  int64_t micro_batches_ = 0;
};

// Elements sent in a step of that many micro-batches by the rank that sends most: where small
// parameters are not gathered, the slices of the others differ in length. `gathers`: how often a
// micro-batch gathers each unit (MeasuringHooks). The formula of docs/computes.md, "ZeRO", with the
// padding counted.
int64_t planned_elements(const ParamTable& table, int ranks, const EngineOptions& options,
                         int64_t micro_batches, const std::vector<int64_t>& gathers);

}  // namespace facet
