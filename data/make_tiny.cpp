// make_tiny --output DIR [--seed N] [--scenes N] [--decoder llama2|llama3|mistral|qwen2]: writes
// DIR/{clip,siglip,qwen_vl,lm,data}, three vision encoders and a language model with small random
// weights and drawn scenes to train them on, and DIR/train.cfg, with which `facet train --config`
// does that.
#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <string>

#include "base/check.h"
#include "base/end_report.h"
#include "base/log.h"
#include "data/tiny/annotations.h"
#include "data/tiny/models.h"
#include "data/tiny/other_sets.h"
#include "io/file.h"

namespace facet::tiny {
namespace {

struct Arguments {
  std::string output;
  int64_t seed = 1;
  int64_t scenes = 4000;
  Decoder decoder = Decoder::kLlama2;
};

int64_t parse_number(const char* name, const char* text) {
  int64_t number = 0;
  const char* end = text + std::strlen(text);
  const auto [rest, error] = std::from_chars(text, end, number);
  CHECK(error == std::errc() && rest == end && number >= 0 && number <= 1'000'000, ExitCode::kUsage,
        "{} {}: expected a number from 0 to 1000000", name, text);
  return number;
}

Arguments parse_arguments(int argc, char** argv) {
  constexpr const char* usage =
      "usage: make_tiny --output DIR [--seed N] [--scenes N] "
      "[--decoder llama2|llama3|mistral|qwen2]";
  Arguments arguments;
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i];
    CHECK(i + 1 < argc, ExitCode::kUsage, "{}", usage);
    if (name == "--output") {
      arguments.output = argv[i + 1];
    } else if (name == "--seed") {
      arguments.seed = parse_number("--seed", argv[i + 1]);
    } else if (name == "--decoder") {
      arguments.decoder = decoder_named(argv[i + 1]);
    } else if (name == "--scenes") {
      arguments.scenes = parse_number("--scenes", argv[i + 1]);
    } else {
      fail(ExitCode::kUsage, "unknown option {}; {}", name, usage);
    }
  }
  CHECK(!arguments.output.empty() && arguments.scenes >= 8, ExitCode::kUsage,
        "an output directory and at least 8 scenes are needed; {}", usage);
  return arguments;
}

// Paths from the root, so that it can be used from any directory.
void write_configuration(const std::string& directory) {
  const std::string root = std::filesystem::absolute(directory).lexically_normal().string();
  write_file(directory + "/train.cfg",
             fmt::format("# facet train --config: trains the tiny models on the drawn scenes\n"
                         "lm_model_name_or_path = {0}/lm\nvision_model_name_or_path = {0}/clip\n"
                         "data_path = {0}/data\ndataset_names = llava llava_dial coco_caption\n"
                         "unfreeze = vis_encoder. lang_decoder.\nmax_seq_len = 512\n"
                         "per_device_train_batch_size = 8\nlearning_rate = 1e-3\n"
                         "num_warmup_steps = 0.05\nnum_train_epochs = 1\n",
                         root));
}

void run(const Arguments& arguments) {
  const auto seed = static_cast<uint64_t>(arguments.seed);
  const auto sentences = write_data(arguments.output + "/data", arguments.scenes, seed);
  const int64_t records =
      std::min(std::max(arguments.scenes / 40, int64_t{3}), arguments.scenes / 8);
  write_other_sets(arguments.output + "/data", records, seed);
  write_clip(arguments.output + "/clip", seed);
  write_siglip(arguments.output + "/siglip", seed);
  write_qwen_vl(arguments.output + "/qwen_vl", seed);
  write_lm(arguments.output + "/lm", sentences, seed, arguments.decoder);
  write_configuration(arguments.output);
  log("{}: clip, siglip, qwen_vl, lm, train.cfg and data with {} scenes", arguments.output,
      arguments.scenes);
}

}  // namespace
}  // namespace facet::tiny

int main(int argc, char** argv) {
  try {
    facet::tiny::run(facet::tiny::parse_arguments(argc, argv));
    return 0;
  } catch (const facet::Error& error) {
    facet::print_end_report(fmt::format("make_tiny: {}", error.what()), "");
    return static_cast<int>(error.code());
  }
}
