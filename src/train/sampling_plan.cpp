#include "train/sampling_plan.h"

#include <algorithm>

#include "train/run_setup.h"
#include "zero/zero_plan.h"

namespace facet {

namespace {

void run_largest_passes(const Questions& questions, Context& context) {
  for (size_t test = 0; test < questions.tests(); ++test) {
    ArenaScope scope(context.arena);
    questions.run_largest_passes(context, test);
  }
}

PassOrder order_of_units(const ModelSetup& model, const Questions& questions, DType dtype) {
  OrderHooks hooks(model.table);
  measure({hooks, dtype}, [&](Context& context) { run_largest_passes(questions, context); });
  return hooks.order();
}

// Parts of the parameters are there as long as the answers take, units that are whole only while
// the parts are copied.
void count_parts(CutModel& cut, int64_t window, PassMemory& memory) {
  Arena parts("parts of the parameters");
  cut.take_memory(parts);
  memory.activations = parts.peak() + std::max(memory.activations, window);
}

}  // namespace

SamplingPlan plan_sampling(const Options& options, const ModelSetup& model,
                           const Questions& questions, int ranks) {
  const EngineOptions engine = engine_options(options);
  SamplingPlan plan;
  CutModel* const cut = questions.cut();
  plan.order =
      order_of_units(cut != nullptr ? cut->setup() : model, questions, engine.compute_dtype);
  plan.elements = gathered_elements(model.table, ranks, engine);
  const int64_t together = options.pin_parameters ? 0 : options.tp_gather_partition_size;
  plan.groups = cut != nullptr ? single_units(model.table)
                               : grouped_units(plan.order.units, plan.order.text_begin, together);
  UnitHooks hooks;
  plan.memory = with_rounding(measure({hooks, engine.compute_dtype}, [&](Context& context) {
    run_largest_passes(questions, context);
  }));
  Arena window("gathered units");
  UnitWindow::take_memory(plan.groups, plan.elements, window, model.table.dtype());
  if (cut != nullptr)
    count_parts(*cut, window.peak(), plan.memory);
  else
    plan.memory.activations += window.peak();
  return plan;
}

}  // namespace facet
