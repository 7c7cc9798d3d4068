#include "train/feature_cache_setup.h"

#include <fmt/format.h>
#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "base/checked_math.h"
#include "base/log.h"
#include "train/data_setup.h"
#include "train/run_costs.h"
#include "train/version.h"

namespace facet {

namespace {

// All of it in words, for the file beside the features. What the arithmetic depends on to the last
// bit is part of it: the program and what it was compiled for, the instructions that oneDNN
// chooses, the threads among which it divides a product.
std::string identity_text(const Options& options, const FeatureOrigin& origin) {
  const VlmConfig& config = origin.model.config;
  const VisionConfig& vision = config.vision;
  const LoraConfig& lora = config.vis_lora;
  const DeviceFacts& facts = origin.device.facts();
  const std::string processor =
      facts.gpu.empty()
          ? fmt::format("CPU, {}, instruction set {} of oneDNN {}, threads: {}", compiler_text(),
                        static_cast<int>(dnnl_get_effective_cpu_isa()), program_version().onednn,
                        facts.threads)
          : fmt::format("GPU {}, {}", facts.gpu.substr(facts.gpu.find(' ') + 1),
                        program_version().cuda);
  std::string text = fmt::format("vision features by {}\n", program_name());
  text += fmt::format("weights: {:016x}\n", origin.weights);
  text += fmt::format(
      "encoder: {}, width {}, feed-forward {}, layers {}, heads {}, positions of {} pixels, "
      "patches of "
      "{}, activation {}, epsilon {}\n",
      vision.traits().name, vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers,
      vision.num_attention_heads, vision.image_size, vision.patch_size,
      static_cast<int>(vision.hidden_act), vision.layer_norm_eps);
  text += fmt::format("LoRA: rank {}, alpha {}{}{}, modules {}\n", lora.rank, lora.alpha,
                      lora.rank_stabilised ? ", rank-stabilised" : "", lora.dora ? ", DoRA" : "",
                      lora.module_name);
  for (const auto& [path, own] : lora.own)
    text += fmt::format("LoRA of {}: rank {}, alpha {}\n", path, own.rank, own.alpha);
  text += fmt::format("feature: layer {}, {} tokens of {} values\n", config.vision_feature_layer,
                      config.vision_tokens(), vision.feature_width());
  text += fmt::format("pixels: {}\n", origin.model.preprocessor->text());
  return text + fmt::format("computed in {} on {}\n", options.precision, processor);
}

int64_t limit_bytes(const Options& options) {
  if (options.feature_cache_gib == 0) return INT64_MAX;
  return static_cast<int64_t>(options.feature_cache_gib * (int64_t{1} << 30));
}

// Of the samples that the options count, if each has --average_images; 0: not known. Images that
// occur again are kept once.
int64_t known_images(const Options& options) {
  int64_t samples = 0;
  for (const DatasetChoice& choice : chosen_datasets(options)) {
    if (choice.samples < 0) return 0;
    samples += choice.samples;
  }
  int64_t images = 0;
  add_saturated(images, {samples, options.average_images});
  return images;
}

// An equal share of what is free for each rank, so that together they keep to the limit.
RecordRoom room_of_rank(const Options& options, Communicator& world) {
  RecordRoom room;
  room.directory = options.feature_cache;
  room.limit = limit_bytes(options);
  if (room.limit == INT64_MAX) return room;
  const int64_t used = world.broadcast(
      world.rank() == 0 ? RecordStore::bytes_below(options.feature_cache) : int64_t{0}, 0);
  room.own = std::max<int64_t>(0, room.limit - used) / world.size();
  return room;
}

// One who fills a cache for a run and does not start both alike would else wonder.
void warn_of_others_only(const Options& options, const RecordStore& store) {
  if (store.records() > 0) return;
  int64_t directories = 0;
  std::error_code error;
  for (std::filesystem::directory_iterator at(options.feature_cache, error), end;
       !error && at != end; at.increment(error)) {
    std::error_code ignored;
    directories += std::filesystem::exists(at->path() / "identity.txt", ignored);
  }
  if (directories > 1)
    warn(
        "{} holds features that were made in other ways ({}), and none in this run's: the files "
        "identity.txt say in which; the number of threads of a rank counts too",
        options.feature_cache, directories - 1);
}

// Words of any rank; log and warnings are rank 0's.
void warn_of_words(Communicator& world, RecordStore& store) {
  const std::string mine = fmt::format("{}", fmt::join(store.take_words(), "\n  "));
  const std::vector<std::string> all = world.all_gather(mine);
  for (size_t rank = 0; rank < all.size(); ++rank)
    if (!all[rank].empty()) warn("feature cache, rank {}: {}", rank, all[rank]);
}

}  // namespace

bool trains_vision(const ParamTable& table) {
  return std::any_of(table.params().begin(), table.params().end(), [](const Param& param) {
    return param.trained && param.name.starts_with(kVisionUnits);
  });
}

int64_t feature_bytes(const Options& options, const VlmConfig& config) {
  return config.vision_tokens() * config.vision.feature_width() * size_of(compute_dtype(options));
}

bool keeps_features(const Options& options, const ModelSetup& model) {
  return !options.feature_cache.empty() && !trains_vision(model.table);
}

std::string feature_plan_text(const Options& options, const ModelSetup& model) {
  if (!keeps_features(options, model)) return "";
  const int64_t bytes = feature_bytes(options, model.config) + RecordStore::kEntryBytes;
  std::string text = fmt::format("--feature_cache takes {} an image", bytes_text(bytes));
  if (const int64_t images = known_images(options); images > 0) {
    int64_t together = 0;
    add_saturated(together, {bytes, images});
    text += fmt::format(", {} for {} images", bytes_text(together), images);
  }
  if (options.feature_cache_gib > 0)
    text += fmt::format(", at most {} (--feature_cache_gib)", bytes_text(limit_bytes(options)));
  return text;
}

std::unique_ptr<FeatureCache> make_feature_cache(const Options& options, const ModelSetup& model) {
  if (options.feature_cache.empty()) return nullptr;
  if (trains_vision(model.table)) {
    warn("--feature_cache is left out: the vision encoder is trained, so features change");
    return nullptr;
  }
  return std::make_unique<FeatureCache>(feature_bytes(options, model.config),
                                        options.max_image_pixels);
}

void open_feature_cache(const Options& options, MpiSession& session, const FeatureOrigin& origin,
                        FeatureCache& cache) {
  Communicator& world = session.world();
  std::string directory;
  collectively(world, [&] {
    try {
      directory =
          FeatureCache::make_directory(options.feature_cache, identity_text(options, origin));
    } catch (const Error& error) {
      fail(error.code(),
           "--feature_cache: {}; give a directory that can be written, or leave it out",
           error.what());
    }
  });
  const RecordRoom room = room_of_rank(options, world);
  cache.open(std::make_unique<RecordStore>(directory, session.host(), room));
  log("feature cache {}: features of {} images, {} each", directory, cache.store()->records(),
      bytes_text(cache.image_bytes()));
  if (world.rank() == 0) warn_of_others_only(options, *cache.store());
  warn_of_words(world, *cache.store());
}

// What a rank has stored reaches the others before they meet, and they look after that.
void share_features(Communicator& world, FeatureCache& cache) {
  RecordStore& store = *cache.store();
  store.sync();
  world.sum(int64_t{0});
  store.refresh();
  warn_of_words(world, store);
}

FeatureCounts counts_of_all_ranks(Communicator& world, const FeatureCache& cache) {
  const FeatureCounts mine = cache.counts();
  std::array<double, 4> sums = {static_cast<double>(mine.given), static_cast<double>(mine.computed),
                                static_cast<double>(mine.stored),
                                static_cast<double>(mine.damaged)};
  world.all_reduce_sum(sums);
  return {static_cast<int64_t>(sums[0]), static_cast<int64_t>(sums[1]),
          static_cast<int64_t>(sums[2]), static_cast<int64_t>(sums[3])};
}

}  // namespace facet
