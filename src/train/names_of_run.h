// What a run replaces, adds to and removes in its --output_dir, by name. What it writes on demand
// and leaves alone afterwards (batches.h5, image_index) is not among it.
#pragma once

#include <array>
#include <string_view>

namespace facet {

// As tidy_directory() takes them (io/file.h). In checkpoints/ it is kNamesOfCheckpoints
// (checkpoint/checkpoint_directory.h).
inline constexpr std::array<std::string_view, 8> kNamesOfRun = {
    "epoch-#/",       "best/",        "options.cfg",  "run.json",
    "loss_curve.svg", "loss_log.csv", "eval_log.csv", "samples.jsonl"};

}  // namespace facet
