// Speed of the CUDA backend at the sizes of the reference configuration (reference.h), most
// valuable figures first: the card's own rates, whole steps, every operator, attention by mode and
// length.
//
// usage: gpu_bench [--json FILE] [--layers N] [--tiny] [SECTION...]
#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/timer.h"
#include "comm/mpi_session.h"
#include "device/cuda/architectures.h"
#include "kernels/cuda/backend.h"
#include "tests/bench/gpu/sections.h"
#include "train/cuda/gpu.h"
#include "train/git_version.h"

namespace facet::bench {
namespace {

constexpr const char* kUsage =
    "usage: gpu_bench [--json FILE] [--layers N] [--tiny] [SECTION...]\n"
    "  sections: step_mmca step_causal operators lora attention; by default all, in this order\n"
    "  --json FILE   append every row to it, as a line of JSON\n"
    "  --layers N    of the decoder, instead of 32: for GPUs with less memory\n"
    "  --tiny        tiny sizes, to see whether it runs\n";

constexpr const char* kSections[] = {"step_mmca", "step_causal", "operators", "lora", "attention"};

struct Arguments {
  std::string json;
  int64_t layers = 0;  // 0: as the configuration has them
  Scale scale = Scale::kReference;
  std::vector<std::string> sections;
};

int64_t positive_number(const std::string& text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  CHECK(error == std::errc() && end == text.data() + text.size() && number > 0, ExitCode::kUsage,
        "--layers {} is no positive number\n{}", text, kUsage);
  return number;
}

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto value = [&] {
      CHECK(i + 1 < argc, ExitCode::kUsage, "{} needs a value\n{}", word, kUsage);
      return std::string(argv[++i]);
    };
    if (word == "--json") {
      arguments.json = value();
    } else if (word == "--layers") {
      arguments.layers = positive_number(value());
    } else if (word == "--tiny") {
      arguments.scale = Scale::kTiny;
    } else {
      CHECK(std::find(std::begin(kSections), std::end(kSections), word) != std::end(kSections),
            ExitCode::kUsage, "{} is no option and no section\n{}", word, kUsage);
      arguments.sections.push_back(word);
    }
  }
  if (arguments.sections.empty())
    arguments.sections.assign(std::begin(kSections), std::end(kSections));
  return arguments;
}

void run_section(Bench& bench, Communicator& world, const std::string& section, int64_t layers) {
  if (section == "step_mmca") measure_step(bench, world, Mode::kMmca, layers);
  if (section == "step_causal") measure_step(bench, world, Mode::kCausal, layers);
  if (section == "operators") measure_operators(bench, world, Mode::kMmca, layers);
  if (section == "lora") measure_lora(bench);
  if (section == "attention") measure_attention(bench);
}

void run(MpiSession& session, const Arguments& arguments) {
  CHECK(on_a_gpu() || arguments.scale == Scale::kTiny, ExitCode::kConfig,
        "this is the emulation of a GPU, which would take days: give --tiny");
  CHECK(session.size() == 1, ExitCode::kConfig,
        "it measures one GPU: start it without mpirun, or with -n 1");
  Options options;
  options.device = "cuda";
  const OpenGpu gpu = open_gpu(options, session.world(), session.host());
  const Stream& stream = static_cast<CudaBackend&>(*gpu.backend).stream();
  DeviceClock clock(stream);
  Report report(arguments.json);
  Bench bench{
      *gpu.backend, stream, clock, report, arguments.scale, on_a_gpu() ? Limits() : kOnce, {}};
  if (!on_a_gpu()) fmt::print("the GPU is emulated: times and rates mean nothing\n");
  report.row("run", {{"gpu", gpu.name},
                     {"times_mean_something", on_a_gpu() ? "yes" : "no"},
                     {"tiny", arguments.scale == Scale::kTiny ? "yes" : "no"},
                     {"peak_TFLOP/s", peak_flops_of_gpu(DType::kBF16) * 1e-12},
                     {"kernels_for", kCudaArchitectures},
                     {"commit", git_version()}});
  bench.rates = measure_rates(bench);
  for (const std::string& section : arguments.sections) {
    const Timer timer;
    run_section(bench, session.world(), section, arguments.layers);
    fmt::print("({} took {:.1f} s)\n", section, timer.seconds());
  }
}

}  // namespace
}  // namespace facet::bench

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "--help") == 0) {
    fmt::print("{}", facet::bench::kUsage);
    return 0;
  }
  facet::MpiSession session(argc, argv);
  try {
    facet::bench::run(session, facet::bench::parse(argc, argv));
  } catch (const facet::Error& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return static_cast<int>(error.code());
  }
  return 0;
}
