#include "base/log.h"
#include "train/commands.h"
#include "train/compute_device.h"
#include "train/evaluate.h"
#include "train/measured_pass.h"
#include "train/progress_hooks.h"
#include "train/run_setup.h"

namespace facet {

void evaluate_command(MpiSession& session, const Options& options) {
  Communicator& world = session.world();
  advise_on_memory("lower --per_device_eval_batch_size or --max_seq_len, or give --precision bf16");
  collectively(world, [&] { check_paths(Command::kEvaluate, options); });
  ComputeDevice device = open_compute_device(options, world, session.host());
  std::unique_ptr<ModelSetup> model;
  std::unique_ptr<DataSetup> data;
  Arena arena("activations", device.memory());
  collectively(world, [&] {
    model = declare_model(options);
    model->chat_template = chat_template_as_trained(options);
    data = open_data(options, *model, world);
    check_data_sets(options, *data);
    CHECK(data->source->num_evaluation_micro_batches() > 0, ExitCode::kBadData,
          "the evaluation split is empty; --data_train_split_ratio {} leaves it nothing",
          options.data_train_split_ratio);
    load_weights_as_trained(options, *model, world, device.plain());
    UnitHooks nothing_moves;
    const PassMemory memory = measure_evaluation(*model->model, eval_limits(options),
                                                 {nothing_moves, compute_dtype(options)});
    arena.allocate(memory.activations);
    device.allocate_panels(memory.panels);
  });
  ProgressHooks hooks;
  Context context{device.layers(), arena, hooks, compute_dtype(options)};
  const EvalReport report =
      evaluate(*model, context, world, *data->source, static_cast<int64_t>(data->names.size()));
  collectively(world, [&] { check_bad_fraction(options, *data, report); });
  if (const std::string bad = bad_samples_text(data->names, report.bad_samples); !bad.empty())
    warn("bad samples left out: {}", bad);
  for (size_t d = 0; d < data->names.size(); ++d)
    log("{}: loss={}, labelled_tokens={}", data->names[d], report.datasets[d].mean(),
        report.datasets[d].labelled_tokens);
  log("eval: loss={}, samples={}, labelled_tokens={}, {:.1f} s", report.loss, report.samples,
      report.labelled_tokens, report.seconds);
  if (!report.non_finite.empty())
    throw CollectiveError(ExitCode::kNumericStop,
                          fmt::format("the loss is {}; first number that is not finite: {}",
                                      report.loss, report.non_finite));
}

}  // namespace facet
