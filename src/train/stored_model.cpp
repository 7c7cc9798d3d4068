#include "train/stored_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <utility>
#include <vector>

#include "base/check.h"
#include "checkpoint/checkpoint_directory.h"
#include "checkpoint/state_file.h"
#include "comm/mpi_session.h"
#include "train/lora_alphas.h"
#include "zero/value_hash.h"

namespace facet {

namespace {

Manifest verified_manifest(const std::string& checkpoint, int64_t part, int64_t parts) {
  Manifest manifest = read_manifest(checkpoint);
  verify_state_file(state_file_of(checkpoint), manifest, part, parts);
  return manifest;
}

}  // namespace

std::unique_ptr<ModelSetup> declare_as_trained(const Options& options) {
  for (const std::string& model :
       {options.lm_model_name_or_path, options.vision_model_name_or_path})
    CHECK(std::filesystem::is_directory(model), ExitCode::kMissingInput,
          "{}: the run was made with the model in this directory, which is not there; say where it "
          "is with --lm_model_name_or_path or --vision_model_name_or_path",
          model);
  std::unique_ptr<ModelSetup> model = declare_model(
      options, options.replay.empty() ? MissingTokenizer::kError : MissingTokenizer::kAssume);
  choose_trained(options, model->table);
  return model;
}

StoredRun stored_run(const std::string& path, const Options& given) {
  StoredRun run{checkpoint_at(path), {}};
  run.options = with_models_of(
      options_of_run(read_manifest(run.checkpoint).state.options, run.checkpoint), given);
  return run;
}

StoredModel::StoredModel(StoredRun run, int64_t part, int64_t parts)
    : run_(std::move(run)),
      part_(part),
      parts_(parts),
      manifest_(verified_manifest(run_.checkpoint, part, parts)),
      setup_(declare_as_trained(run_.options)),
      origins_(setup_->table, setup_->config, sources_of(run_.options),
               static_cast<uint64_t>(run_.options.seed)),
      file_(state_file_of(run_.checkpoint), ExitCode::kIo) {
  const std::string others =
      alpha_differences(manifest_.state.own_alphas, own_alphas(setup_->config));
  CHECK(others.empty(), ExitCode::kConfig, "{} was trained with another adapter than {} is now:{}",
        run_.checkpoint, run_.options.adapter, others);
}

uint64_t StoredModel::frozen_hash() const {
  constexpr int64_t kPieceElements = int64_t{1} << 20;
  std::vector<float> piece(static_cast<size_t>(kPieceElements));
  uint64_t sum = 0;
  int64_t number = 0;
  for (const Param& param : setup_->table.params()) {
    if (param.trained || number++ % parts_ != part_) continue;
    for (int64_t begin = 0; begin < param.numel(); begin += kPieceElements) {
      const int64_t count = std::min(kPieceElements, param.numel() - begin);
      origins_.read(param, begin, count, piece.data());
      sum += value_hash(param, begin, piece.data(), count);
    }
  }
  return sum;
}

void StoredModel::check_frozen(uint64_t hash) const {
  CHECK(fmt::format("{:016x}", hash) == manifest_.state.frozen_hash, ExitCode::kConfig,
        "{} was trained on other models than {} and {}: their frozen weights differ",
        run_.checkpoint, run_.options.lm_model_name_or_path,
        run_.options.vision_model_name_or_path);
}

void StoredModel::read_trained(const Param& param, int64_t begin, int64_t count, float* out) const {
  const StoredArray* array = manifest_.find(fmt::format("param/{}/fp32", param.name));
  CHECK(array != nullptr && array->shape == param.shape, ExitCode::kConfig,
        "{}: {} is not in it as the options of its run describe it", run_.checkpoint, param.name);
  constexpr int64_t kBytes = sizeof(float);
  file_.read_at(array->offset + begin * kBytes, out, count * kBytes);
}

ReadParam StoredModel::read_as_exported() const {
  return facet::read_as_exported(setup_->table, setup_->config, origins_,
                                 [this](const Param& param, int64_t begin, int64_t count,
                                        float* out) { read_trained(param, begin, count, out); });
}

std::string StoredModel::text() const {
  const RunState& state = manifest_.state;
  return fmt::format("{}: step {}, epoch {}", run_.checkpoint, state.step, state.epoch + 1);
}

std::unique_ptr<StoredModel> open_stored_model(const StoredRun& run, Communicator& world) {
  std::unique_ptr<StoredModel> model;
  std::string part;
  collectively(world, [&] {
    model = std::make_unique<StoredModel>(run, world.rank(), world.size());
    part = fmt::format("{}", model->frozen_hash());
  });
  uint64_t sum = 0;
  for (const std::string& of_rank : world.all_gather(part)) sum += std::stoull(of_rank);
  collectively(world, [&] { model->check_frozen(sum); });
  return model;
}

}  // namespace facet
