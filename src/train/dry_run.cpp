// facet train --dry_run: everything that can go wrong before the first step, without the weights.
#include "base/log.h"
#include "data/probe.h"
#include "train/check_samples.h"
#include "train/commands.h"
#include "train/export_plan.h"
#include "train/feature_cache_setup.h"
#include "train/output_proof.h"
#include "train/run_costs.h"
#include "train/run_setup.h"
#include "train/threads.h"

namespace facet {

namespace {

constexpr int64_t kProbedRecords = 100;  // of each data set

std::string probe_text(const ProbeReport& report) {
  std::string text =
      fmt::format("data set {}: {} records read, {} bad, {} images, {} tokens, {} of them labelled",
                  report.dataset, report.records, report.bad, report.images, report.tokens,
                  report.labelled_tokens);
  if (report.bad > 0) text += fmt::format("\n  first bad record: {}", report.first_reason);
  return text;
}

RunCosts lay_out_and_plan(const Options& options, int ranks, ModelSetup& model, DataSetup& data,
                          const Questions* questions) {
  Engine::lay_out(model.table, ranks, engine_options(options), ParamTable::Memory::kMeasureOnly);
  return plan_costs(options, model, replay_of(options, data), ranks, questions);
}

void print_plan(const Options& options, int ranks, ModelSetup& model, const DataSetup& data,
                const RunCosts& costs) {
  log_line(groups_text(make_groups(options, model.table), model.table));
  log_line(costs.memory.text());
  log_line(traffic_text(options, costs));
  if (const std::string features = feature_plan_text(options, model); !features.empty())
    log_line(features);
  log_line(plan_steps(options, *data.source).text(options, ranks));
}

}  // namespace

void dry_run(MpiSession& session, const Options& options, const OpenQuestions& open_questions) {
  Communicator& world = session.world();
  collectively(world, [&] {
    check_paths(Command::kTrain, options);
    check_sources_stay(options);
  });
  choose_threads(world, session.host(), options.threads);
  std::unique_ptr<ModelSetup> model;
  std::unique_ptr<DataSetup> data;
  RunCosts costs;
  collectively(world, [&] {
    log_line("resolved options:");
    log_lines(resolved_options(Command::kTrain, options));
    model = declare_model(options);
    choose_trained(options, model->table);
    for (const std::string& line :
         check_pretrained(model->table, model->config, sources_of(options)))
      warn_line(line);
    data = open_data(options, *model, world);
    if (data->table != nullptr && !options.check_all_samples)
      for (const ProbeReport& report : probe_datasets(
               *data->table, *data->builder, options.max_num_image_per_sample, kProbedRecords))
        log_line(probe_text(report));
    if (world.rank() == 0) write_debug_samples(options, *model, *data);
    const std::unique_ptr<Questions> questions =
        questions_of(options, *model, world.rank(), open_questions);
    if (questions != nullptr) questions->check_images();
    costs = lay_out_and_plan(options, world.size(), *model, *data, questions.get());
  });
  costs = largest_of_all_ranks(costs, world);
  collectively(world, [&] { print_plan(options, world.size(), *model, *data, costs); });
  if (!options.output_dir.empty()) prove_output_directory(options, *model, *data, world);
  if (options.check_all_samples) check_all_samples(options, *data, world);
  log("dry run: nothing was trained");
}

}  // namespace facet
