// facet data-stats: how long the samples of the data sets are, and what training would cut or leave
// out.
#include <algorithm>
#include <map>
#include <optional>

#include "base/log.h"
#include "base/progress.h"
#include "data/chat_sample_builder.h"
#include "io/file.h"
#include "train/commands.h"
#include "train/data_stats_text.h"
#include "train/length_plot.h"
#include "train/record_walk.h"
#include "train/run_setup.h"
#include "train/threads.h"

namespace facet {

namespace {

// The options of training, but with room for samples of any length that is counted.
Options uncut(Options options) {
  options.max_seq_len = std::max(options.max_seq_len, SampleStatistics::kMaxLength);
  return options;
}

// What the statistics are taken of.
struct Subject {
  Subject(const Options& options, Communicator& world)
      : model(declare_model(options)),
        data(open_data(options, *model, world)),
        uncut_prompt(make_prompt_builder(uncut(options), *model)),
        uncut_builder(*model->tokenizer, *uncut_prompt, *model->preprocessor,
                      options.max_image_pixels),
        image_tokens(model->config.image_tokens()),
        statistics(*data->table, *data->builder, uncut_builder,
                   {options.max_num_image_per_sample, image_tokens, world.rank(), world.size()}) {}

  std::unique_ptr<ModelSetup> model;
  std::unique_ptr<DataSetup> data;
  std::unique_ptr<PromptBuilder> uncut_prompt;
  ChatSampleBuilder uncut_builder;
  int64_t image_tokens;
  SampleStatistics statistics;
};

// Of all ranks. Collective.
std::vector<SetStatistics> summed(const std::vector<SetStatistics>& mine, Communicator& world) {
  std::vector<SetStatistics> all(mine.size());
  for (const std::string& of_rank : world.all_gather(packed(mine))) {
    const std::vector<SetStatistics> sets = unpacked(of_rank);
    for (size_t d = 0; d < all.size(); ++d) all[d].add(sets.at(d));
  }
  return all;
}

DataStatsReport report_of(const Options& options, const Subject& subject) {
  const SampleTable& table = *subject.data->table;
  DataStatsReport report;
  report.weighted = subject.data->choices[0].weight > 0;
  report.image_tokens = subject.image_tokens;
  report.max_seq_len = options.max_seq_len;
  report.skips_bad = options.bad_samples == "skip";
  report.max_bad_fraction = options.max_bad_fraction;
  for (int64_t d = 0; d < table.num_datasets(); ++d)
    report.sets.push_back(
        {.name = table.dataset(d).name(), .records = table.dataset(d).num_records()});
  const auto set_of = [&](int64_t sample) -> DataStatsReport::Set& {
    return report.sets[static_cast<size_t>(table.dataset_of(Split::kTraining, sample))];
  };
  for (int64_t sample = 0; sample < table.num_samples(Split::kTraining); ++sample)
    ++set_of(sample).training;
  for (const int64_t sample : table.epoch_order(0)) ++set_of(sample).places;
  return report;
}

std::string epoch_text(const Options& options, const SampleTable& table) {
  const BatchPlan plan{table.num_samples(Split::kTraining), options.per_device_train_batch_size,
                       options.ranks, options.gradient_accumulation_steps};
  return fmt::format("an epoch takes {} samples in {} steps; {}; {} samples are for evaluation",
                     plan.num_samples, plan.num_steps(),
                     samples_of_step_text(options, options.ranks),
                     table.num_samples(Split::kEvaluation));
}

// In the order of the data sets, the first few of each.
void list_named(const std::vector<BadItem>& bad) {
  std::map<std::string, size_t> listed;
  for (const auto& [item, record] : bad)
    if (++listed[record.dataset] <= SampleStatistics::kNamedOfSet) log_line(text_of(record));
}

// The picture's path; "" for none.
std::string picture_of(const Options& options) {
  if (!options.stats_svg.empty() || options.output_dir.empty()) return options.stats_svg;
  return options.output_dir + "/data_lengths.svg";
}

void write_picture(const Options& options, const DataStatsReport& report, Communicator& world) {
  const std::string path = picture_of(options);
  if (path.empty()) return log_line("--stats_svg FILE draws the lengths");
  collectively(world, [&] {
    if (world.rank() != 0) return;
    make_directories(directory_of(path));
    write_file(path, length_histogram_svg(report));
  });
  log("the lengths as a picture: {}", path);
}

}  // namespace

void data_stats(MpiSession& session, const Options& options) {
  Communicator& world = session.world();
  collectively(world, [&] { check_paths(Command::kDataStats, options); });
  choose_threads(world, session.host(), options.threads);
  std::optional<Subject> subject;
  DataStatsReport report;
  collectively(world, [&] {
    subject.emplace(options, world);
    report = report_of(options, *subject);
  });
  const InSection section(Section::kData);
  SampleStatistics& statistics = subject->statistics;
  walk_to_the_end(world, statistics.num_items(), "counted", [&](double seconds) {
    statistics.go_on(seconds);
    return WalkProgress{statistics.done(), statistics.num_left_out()};
  });
  const std::vector<SetStatistics> sets = summed(statistics.sets(), world);
  for (size_t d = 0; d < sets.size(); ++d) report.sets[d].statistics = sets[d];
  list_named(gathered(statistics.named(), world));
  log_lines(data_stats_table(report));
  for (const std::string& sentence : data_stats_sentences(report)) log_line(sentence);
  log_line(epoch_text(options, *subject->data->table));
  write_picture(options, report, world);
}

}  // namespace facet
