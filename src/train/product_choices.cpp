#include "train/product_choices.h"

#include <algorithm>
#include <map>
#include <sstream>

#include "base/log.h"
#include "comm/mpi_session.h"

namespace facet {

namespace {

// On all ranks: do they all have choices for their GPUs?
bool taken_by_all(Communicator& world, const ProductAlgorithms& gpu, const std::string& choices) {
  int64_t taken = 0;
  collectively(world, [&] { taken = gpu.take(choices); });
  return world.max(taken == 0 ? 1 : 0) == 0;
}

void choose(Communicator& world, const ProductAlgorithms& gpu, RunState& state) {
  state.product_choices = first_choices(world.all_gather(gpu.choices()));
  static_cast<void>(gpu.take(state.product_choices));
  log("{} matrix products were timed: from here on each is computed in the way that was fastest",
      std::count(state.product_choices.begin(), state.product_choices.end(), '\n'));
}

int64_t count_of(const std::string& text, const std::string& part) {
  int64_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

std::string kind_of(const std::string& choices) { return choices.substr(0, choices.find('\t')); }

}  // namespace

std::string first_choices(std::span<const std::string> of_ranks) {
  std::map<std::string, std::string> algorithms;  // by what comes before it in a line
  for (const std::string& choices : of_ranks) {
    std::istringstream lines(choices);
    for (std::string line; std::getline(lines, line);) {
      const size_t end = line.rfind('\t');
      algorithms.emplace(line.substr(0, end), line.substr(end));
    }
  }
  std::string text;
  for (const auto& [product, algorithm] : algorithms) text += product + algorithm + '\n';
  return text;
}

std::vector<std::string> without_choices(const Options& options, const std::string& choices) {
  const int64_t of_lora = count_of(choices, "\tseparate\n") + count_of(choices, "\tfused\n");
  std::vector<std::string> words;
  if (options.product_algorithms == "timed" && of_lora == count_of(choices, "\n"))
    words.push_back("--product_algorithms timed: each product takes cuBLASLt's first algorithm");
  if (options.lora_products == "timed" && of_lora == 0)
    words.push_back("--lora_products timed: layers have LoRA apart, as with `separate`");
  for (std::string& word : words)
    word += "; the checkpoint has no choices of this kind, and a run that goes on times nothing";
  return words;
}

void settle_products(const Options& options, Communicator& world, const ComputeDevice& device,
                     RunState& state, TrainStep& step) {
  if (options.product_algorithms != "timed" && options.lora_products != "timed") return;
  const ProductAlgorithms& gpu = device.facts().products;
  if (!state.product_choices.empty()) {
    if (taken_by_all(world, gpu, state.product_choices)) {
      for (const std::string& word : without_choices(options, state.product_choices))
        warn("{}", word);
      return;
    }
    warn(
        "the ways of matrix products are chosen anew, so bits may differ: the checkpoint's were "
        "chosen for {}, and there is a rank that computes by another (rank 0: {})",
        kind_of(state.product_choices), gpu.kind);
  }
  step.rehearse_next(
      {.begin = gpu.time, .end = [&world, &gpu, &state] { choose(world, gpu, state); }});
}

}  // namespace facet
