// facet cache-features: the features of all images of a run's data sets, computed before the run
// starts. Of the model only the vision encoder is loaded.
#include <array>
#include <span>

#include "base/log.h"
#include "base/progress.h"
#include "base/timer.h"
#include "data/bad_samples.h"
#include "data/prefetcher.h"
#include "job/stop_signals.h"
#include "model/vision_encoder.h"
#include "optim/partition.h"
#include "train/commands.h"
#include "train/compute_device.h"
#include "train/data_setup.h"
#include "train/feature_cache_setup.h"
#include "train/measured_pass.h"
#include "train/progress_bar.h"
#include "train/progress_hooks.h"
#include "train/run_costs.h"
#include "zero/values.h"

namespace facet {

namespace {

// Another run's directory is none of its business.
Options writing_only_features(Options options) {
  options.output_dir.clear();
  return options;
}

// One image as a micro-batch.
MicroBatch batch_of(const VlmConfig& config, const ImageKey& key, std::span<const float> pixels) {
  MicroBatch batch;
  batch.image_size = static_cast<int32_t>(config.image_size);
  batch.images_per_sample = {1};
  batch.pixels.assign(pixels.begin(), pixels.end());
  batch.features.keys = {key};
  batch.features.is_given = {0};
  return batch;
}

// The vision encoder without the rest of the model, frozen.
class VisionAlone {
 public:
  VisionAlone(const Options& options, const VlmConfig& config, Communicator& world,
              ComputeDevice& device)
      : config_(config), dtype_(compute_dtype(options)), device_(device), vision_(table_, config) {
    table_.set_trained("", false);
    table_.place_in(device.memory());
    table_.allocate(partition_padding(world.size()), ParamTable::Memory::kReal, dtype_);
    Values& values = values_.emplace(table_, world, device.plain(), ValueChoices{});
    load_pretrained(table_, config, sources_of(options), static_cast<uint64_t>(options.seed),
                    values.filler());
    take_memory();
  }

  uint64_t weights() { return values_->frozen_hash(); }  // collective

  void compute(const ImageKey& key, std::span<const float> pixels, FeatureSink& sink) {
    Context context{device_.layers(), *arena_, hooks_, dtype_};
    ArenaScope scope(*arena_);
    vision_.see(context, batch_of(config_, key, pixels), 1, Keep::kNothing, &sink);
  }

 private:
  void take_memory() {
    const std::vector<float> pixels(
        static_cast<size_t>(3 * config_.image_size * config_.image_size));
    const PassMemory memory = measure({hooks_, dtype_}, [&](Context& context) {
      vision_.see(context, batch_of(config_, {}, pixels), 1, Keep::kNothing, nullptr);
    });
    arena_.emplace("activations", memory.activations, device_.memory());
    device_.allocate_panels(memory.panels);
  }

  const VlmConfig& config_;
  const DType dtype_;
  ComputeDevice& device_;
  ParamTable table_;
  VisionEncoder vision_;
  std::optional<Values> values_;
  std::optional<Arena> arena_;
  ProgressHooks hooks_;
};

// This rank's samples of both splits, one after the other.
class Filling {
 public:
  Filling(const Options& options, const DataSetup& data, const Communicator& world,
          VisionAlone& vision)
      : options_(options),
        data_(data),
        vision_(vision),
        prefetcher_(
            [this](const SampleRequest& request, PreparedSample& out) { prepare(request, out); },
            options.num_workers, std::max<int64_t>(4, 2 * options.num_workers)) {
    for (const Split split : {Split::kTraining, Split::kEvaluation})
      for (int64_t s = world.rank(); s < data.table->num_samples(split); s += world.size())
        requests_.push_back({split, 0, s});
    prefetcher_.restart([this, next = size_t{0}]() mutable -> std::optional<SampleRequest> {
      if (next == requests_.size()) return std::nullopt;
      return requests_[next++];
    });
  }

  int64_t done() const { return done_; }  // samples
  int64_t total() const { return static_cast<int64_t>(requests_.size()); }
  int64_t bad() const { return bad_; }
  bool can_go_on() const { return done_ < total() && data_.features->store()->adds(); }
  bool is_complete() const { return done_ == total() && data_.features->store()->adds(); }

  // For about so long, or as far as it can.
  void go_on(double seconds) {
    const Timer timer;
    for (; can_go_on() && timer.seconds() < seconds; ++done_) take(prefetcher_.next());
  }

 private:
  void prepare(const SampleRequest& request, PreparedSample& out) const {
    build_checked(*data_.builder, data_.table->read(request.split, request.sample, request.epoch),
                  options_.max_num_image_per_sample, out);
  }

  void take(const Prefetcher::Slot& slot) {
    note_samples({&slot.request.sample, 1});
    try {
      if (slot.failure) std::rethrow_exception(slot.failure);
      compute(slot.sample);
    } catch (const Error& error) {
      if (!means_bad_sample(error)) throw;
      ++bad_;
      CHECK(options_.bad_samples == "skip", error.code(),
            "bad sample: {}; repair it, or skip bad samples with --bad_samples skip", error.what());
    }
  }

  void compute(const PreparedSample& sample) {
    FeatureCache& cache = *data_.features;
    cache.given(sample.features.num_given());
    const int64_t size = data_.builder->image_size();
    const auto floats = static_cast<size_t>(3 * size * size);
    std::span<const float> pixels(sample.pixels);
    for (size_t i = 0; i < sample.features.keys.size(); ++i) {
      if (sample.features.gives(static_cast<int64_t>(i))) continue;
      const ImageKey& key = sample.features.keys[i];
      if (cache.store()->was_added(key))
        cache.given(1);
      else
        vision_.compute(key, pixels.first(floats), cache);
      pixels = pixels.subspan(floats);
    }
  }

  const Options& options_;
  const DataSetup& data_;
  VisionAlone& vision_;
  std::vector<SampleRequest> requests_;
  int64_t done_ = 0, bad_ = 0;
  Prefetcher prefetcher_;  // last member: its threads use the others
};

// Until all is done or no rank can store more. False if a signal came before.
bool fill(Filling& filling, Communicator& world, FeatureCache& cache) {
  constexpr double kSecondsOfRound = 1;
  ProgressBar bar;
  const Timer timer;
  const int64_t total = world.sum(filling.total());
  while (world.max(int64_t{filling.can_go_on()}) != 0) {
    if (world.max(int64_t{stop_signal() != nullptr}) != 0) return false;
    collectively(world, [&] { filling.go_on(kSecondsOfRound); });
    const int64_t done = world.sum(filling.done());
    const FeatureCounts counts = counts_of_all_ranks(world, cache);
    if (world.rank() == 0)
      bar.show(
          done, total,
          fmt::format("{} of {} samples, {} images computed, {} left", done, total, counts.computed,
                      clock_text(timer.seconds() * static_cast<double>(total - done) /
                                 static_cast<double>(std::max<int64_t>(done, 1)))));
  }
  return true;
}

}  // namespace

void cache_features_command(MpiSession& session, const Options& given, RunStatus& status) {
  Communicator& world = session.world();
  const Options options = writing_only_features(given);
  collectively(world, [&] { check_paths(Command::kCacheFeatures, options); });
  ComputeDevice device = open_compute_device(options, world, session.host());
  std::unique_ptr<ModelSetup> model;
  std::unique_ptr<DataSetup> data;
  std::unique_ptr<VisionAlone> vision;
  collectively(world, [&] {
    model = declare_model(options);
    choose_trained(options, model->table);
    CHECK(!trains_vision(model->table), ExitCode::kConfig,
          "with these options the vision encoder is trained, so that its features change in every "
          "step; there is nothing to keep");
    data = open_data(options, *model, world);
    vision = std::make_unique<VisionAlone>(options, model->config, world, device);
  });
  FeatureCache& cache = *data->features;
  open_feature_cache(options, session, {*model, device, vision->weights()}, cache);
  cache.give_only(FeatureCache::Gives::kPresence);
  const InSection section(Section::kData);
  std::optional<Filling> filling;
  collectively(world, [&] { filling.emplace(options, *data, world, *vision); });
  const bool undisturbed = fill(*filling, world, cache);
  share_features(world, cache);
  const bool complete = world.sum(int64_t{filling->is_complete()}) == world.size();
  const FeatureCounts counts = counts_of_all_ranks(world, cache);
  if (const int64_t bad = world.sum(filling->bad()); bad > 0) warn("bad samples left out: {}", bad);
  if (!undisturbed) {
    status.set_code(ExitCode::kSaved);
    log("stopping for a signal; the same command goes on from here");
  }
  log("FEATURES images={} hits={} computed={} bytes={} complete={}", counts.given + counts.computed,
      counts.given, counts.computed, counts.stored, complete ? "yes" : "no");
}

}  // namespace facet
