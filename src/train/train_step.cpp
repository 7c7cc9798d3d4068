#include "train/train_step.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "base/progress.h"
#include "comm/mpi_session.h"
#include "train/non_finite_search.h"

namespace facet {

namespace {

int64_t operations_of(const OpCounts& counts) {
  return counts.matmul_flops + counts.attention_flops;
}

}  // namespace

const StepReport& TrainStep::run(int64_t epoch, int64_t step) {
  clock_.begin();
  InSection section(Section::kData);
  fetch(epoch, step);
  report_.loss_scale = parts_.scaler != nullptr ? parts_.scaler->scale() : 1;

  section.change_to(Section::kCompute);
  if (rehearsal_) rehearse();
  const int64_t sent_before = parts_.world.elements_sent();
  compute_all();
  clock_.change_to(StepPhase::kReduce);
  const GradientVerdict verdict = parts_.engine.reduce_gradients(report_.loss_scale);
  add_losses();
  agree_on_results();

  section.change_to(Section::kUpdate);
  clock_.change_to(StepPhase::kOptimizer);
  report_.skipped = !apply(verdict);
  report_.grad_norm = verdict.norm;
  report_.clip_factor = verdict.clip_factor;
  report_.first_bad_parameter = verdict.first_bad_parameter;
  report_.elements_sent = parts_.world.elements_sent() - sent_before;
  report_.phases = clock_.end();
  report_.seconds = report_.phases.total();
  report_.end = std::chrono::system_clock::now();
  return report_;
}

TrainStep::TrainStep(const StepParts& parts)
    : parts_(parts),
      clock_(parts.wait_for_device),
      phase_hooks_(parts.engine.table(), parts.context.hooks, parts.context.ops, clock_) {
  report_.learning_rates.resize(parts_.engine.groups().size());
  report_.datasets.resize(static_cast<size_t>(parts_.num_datasets));
  bad_.resize(static_cast<size_t>(parts_.num_datasets));
}

// A step that failed may have left losses on their way to it.
TrainStep::~TrainStep() { parts_.context.ops.drop_copies(); }

void TrainStep::fetch(int64_t epoch, int64_t step) {
  parts_.source.agree_on_step(epoch, step);
  collectively(parts_.world, [&] {
    inject("data");
    batches_ = parts_.source.fetch_step(epoch, step);
  });
  agree_on_counts(batches_, epoch);
}

void TrainStep::rehearse() {
  const Rehearsal rehearsal = *std::exchange(rehearsal_, std::nullopt);
  clock_.change_to(StepPhase::kForward);
  rehearsal.begin();
  compute_gradients_again();
  rehearsal.end();
}

// Forward and backward of this rank's micro-batches. The host waits for no result of theirs.
void TrainStep::compute_all() {
  begin_passes();
  const int64_t operations_before = operations_of(parts_.context.ops.counts());
  for (size_t k = 0; k < batches_.size(); ++k) {
    clock_.change_to(StepPhase::kForward);
    compute(k, phase_hooks_);
  }
  report_.model_flops = operations_of(parts_.context.ops.counts()) - operations_before;
  inject("compute");
}

// False if the step is skipped. The rate depends on the optimizer steps taken: a skipped step
// leaves it unchanged.
bool TrainStep::apply(const GradientVerdict& verdict) {
  const double lr_factor = parts_.schedule.factor(parts_.engine.optimizer_steps());
  const bool good = verdict.finite && std::isfinite(report_.loss);
  if (good) parts_.engine.step(verdict, lr_factor);
  follow_scale(good);
  for (size_t g = 0; g < parts_.engine.groups().size(); ++g)
    report_.learning_rates[g] = parts_.engine.groups()[g].learning_rate * lr_factor;
  return good;
}

// Adjusts the scale for the next step; this one's gradients were divided by the scale they were
// computed with.
void TrainStep::follow_scale(bool good) {
  report_.scale_exhausted = !good && parts_.scaler != nullptr && parts_.scaler->exhausted();
  if (parts_.scaler == nullptr) return;
  if (good)
    parts_.scaler->good_step();
  else
    parts_.scaler->overflow();
}

void TrainStep::inject(const char* moment) const {
  parts_.faults.at(moment, parts_.world.rank(), my_progress().step);
}

// Before the step's micro-batches are computed. Nothing is on its way to their losses any more.
void TrainStep::begin_passes() {
  parts_.context.ops.drop_copies();
  if (losses_.size() < batches_.size()) losses_.resize(batches_.size());
  parts_.engine.begin_step(static_cast<int64_t>(batches_.size()));
}

// Micro-batch k of the step.
void TrainStep::compute(size_t k, UnitHooks& hooks) {
  const MicroBatch& batch = batches_[k];
  note_samples(batch.sample_ids);
  Context context{parts_.context.ops, parts_.context.arena, hooks, parts_.context.dtype,
                  parts_.context.inputs};
  parts_.model.set_vision(vision_);
  parts_.model.forward_backward(
      context, batch, static_cast<float>(loss_weight(batch) * report_.loss_scale), losses_[k]);
  parts_.model.set_vision(VisionWork::kCalled);  // evaluations do not agree on it
}

// One micro-batch at a time, so that what it finds can be reported with its samples; gradients go
// through the engine as in the step, because every rank must take part in what it exchanges.
std::string TrainStep::find_non_finite() {
  const InSection section(Section::kCompute);
  for (size_t k = 0; k < batches_.size(); ++k) {
    const MicroBatch& batch = batches_[k];
    NonFiniteSearch search(parts_.engine.table(), parts_.context.hooks, parts_.context.ops);
    search.look_at_pixels(batch);
    parts_.engine.begin_step(1);
    compute(k, search);
    const GradientVerdict verdict = parts_.engine.reduce_gradients(report_.loss_scale);
    const std::vector<std::string> found = parts_.world.all_gather(
        search.found().empty() ? ""
                               : fmt::format("rank {}, micro-batch {} of {}, {}; samples {}",
                                             parts_.world.rank(), k + 1, batches_.size(),
                                             search.found(), fmt::join(batch.sample_ids, " ")));
    for (const std::string& text : found)
      if (!text.empty()) return "first number that is not finite: " + text;
    if (!verdict.finite)
      return fmt::format(
          "micro-batch {} of {}: each rank's own gradient of {} is finite; rounded to be sent "
          "(--communication_data_type) and summed over the ranks it is not",
          k + 1, batches_.size(), verdict.first_bad_parameter);
  }
  if (const std::string bad = bad_parameter_of_all(); !bad.empty())
    return fmt::format(
        "the gradient of {} is finite in each micro-batch alone; summed over them and the ranks, "
        "as it is sent (--communication_data_type), it is not",
        bad);
  return "computed again, every number is finite: the first time, one was corrupted on a rank that "
         "cannot be identified";
}

// Computes the step's gradients apart from it, all micro-batches summed as in the step. Nobody is
// told of features: the step itself does that.
GradientVerdict TrainStep::compute_gradients_again() {
  FeatureSink* const sink = parts_.model.tell_features_to(nullptr);
  begin_passes();
  for (size_t k = 0; k < batches_.size(); ++k) compute(k, parts_.context.hooks);
  parts_.model.tell_features_to(sink);
  return parts_.engine.reduce_gradients(report_.loss_scale);
}

std::string TrainStep::bad_parameter_of_all() {
  return batches_.size() < 2 ? "" : compute_gradients_again().first_bad_parameter;
}

// The totals of the step over all ranks, in one exchange. Doubles hold counts exactly.
void TrainStep::agree_on_counts(std::span<const MicroBatch> batches, int64_t epoch) {
  const int64_t tokens_beside_place = parts_.model.config().image_tokens() - 1;
  int64_t samples = 0, tokens = 0, labelled = 0, unlabelled_batches = 0, images = 0, given = 0;
  for (const MicroBatch& batch : batches) {
    samples += batch.num_samples();
    tokens += batch.num_tokens() + batch.num_images() * tokens_beside_place;
    const int64_t labels = batch.num_labelled();
    labelled += labels;
    unlabelled_batches += labels == 0 && batch.num_samples() > 0;
    images += batch.num_images();
    given += batch.features.num_given();
  }
  flat_.assign({static_cast<double>(samples), static_cast<double>(tokens),
                static_cast<double>(labelled), static_cast<double>(unlabelled_batches),
                static_cast<double>(images), static_cast<double>(given)});
  const size_t header = flat_.size();
  flat_.resize(header + bad_.size(), 0.0);
  const std::span<const int64_t> bad = parts_.source.bad_samples_of_last_fetch();
  for (size_t d = 0; d < bad.size(); ++d) flat_[header + d] = static_cast<double>(bad[d]);
  parts_.world.all_reduce_sum(flat_);

  report_.micro_batches = static_cast<int64_t>(batches.size());
  report_.samples = static_cast<int64_t>(flat_[0]);
  report_.tokens = static_cast<int64_t>(flat_[1]);
  report_.labelled_tokens = static_cast<int64_t>(flat_[2]);
  report_.unlabelled_micro_batches = static_cast<int64_t>(flat_[3]);
  const bool all_given = flat_[5] > 0 && flat_[5] == flat_[4];
  vision_ = all_given ? VisionWork::kAtRest : VisionWork::kCalled;
  report_.loss = 0;
  for (LossOfDataset& dataset : report_.datasets) dataset = {};
  for (size_t d = 0; d < bad_.size(); ++d) bad_[d] = static_cast<int64_t>(flat_[header + d]);
  if (parts_.bad_samples != nullptr)
    collectively(parts_.world, [&] { parts_.bad_samples->charge(epoch, bad_); });
}

// The weight of each labelled token's loss: gradients of the ranks and micro-batches are summed.
double TrainStep::loss_weight(const MicroBatch& batch) const {
  const auto share_of = [](int64_t count) {
    return count > 0 ? 1.0 / static_cast<double>(count) : 0.0;
  };
  if (parts_.loss_average == LossAverage::kGlobal) return share_of(report_.labelled_tokens);
  return share_of(batch.num_labelled()) * share_of(report_.micro_batches * parts_.world.size());
}

// The device was waited for when it had the gradients, and has had the losses before them.
void TrainStep::add_losses() {
  parts_.context.ops.finish_copies();
  for (size_t k = 0; k < batches_.size(); ++k) {
    losses_[k].add_up(sums_);
    add_loss(batches_[k]);
  }
}

void TrainStep::add_loss(const MicroBatch& batch) {
  report_.loss += loss_weight(batch) * sums_.total_loss();
  for (size_t b = 0; b < sums_.loss.size(); ++b) {
    LossOfDataset& dataset = report_.datasets[dataset_of(batch, b, report_.datasets.size())];
    dataset.loss_sum += sums_.loss[b];
    dataset.labelled_tokens += sums_.labelled[b];
  }
}

void TrainStep::agree_on_results() {
  flat_.assign({report_.loss, static_cast<double>(report_.model_flops)});
  const size_t header = flat_.size();
  for (const LossOfDataset& dataset : report_.datasets) {
    flat_.push_back(dataset.loss_sum);
    flat_.push_back(static_cast<double>(dataset.labelled_tokens));
  }
  parts_.world.all_reduce_sum(flat_);
  report_.loss = flat_[0];
  report_.model_flops = static_cast<int64_t>(flat_[1]);
  for (size_t d = 0; d < report_.datasets.size(); ++d) {
    report_.datasets[d].loss_sum = flat_[header + 2 * d];
    report_.datasets[d].labelled_tokens = static_cast<int64_t>(flat_[header + 2 * d + 1]);
  }
  report_.memory_bytes = parts_.world.max(Arena::most_held());
}

}  // namespace facet
