// Which exports a run makes: after which epochs, whole models or adapters, and how many of them
// stay.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "checkpoint/hugging_face.h"
#include "options/options.h"

namespace facet {

struct ExportPlan {
  // At the end of an epoch and of the best evaluation; at the end of the run. Nothing: --export
  // none.
  std::optional<ExportKind> each, last;
};

// By --export; auto is an adapter after each epoch where LoRA is trained and nothing else in the
// language model and the vision encoder is, but for what the run's own adapter has whole; and the
// whole model at the end.
ExportPlan plan_exports(const Options& options, const ParamTable& table);

// What --export_dtype says: nothing for auto.
std::optional<DType> export_type(const Options& options);

// "the model", "an adapter": of log lines.
const char* text_of(ExportKind kind);

// The number of exports of epochs 1 to `epochs`: every --export_every, and the last.
int64_t exported_epochs(const Options& options, int64_t epochs);

// kConfig if a model, projection or adapter that the run reads lies in a directory in which it puts
// an export: replaced or removed there, what was read at the start would be lost, and later exports
// would have other frozen weights than the run.
void check_sources_stay(const Options& options);

// Removes the exports OUT/epoch-N older than the newest `keep` of those up to `newest`; keep 0
// keeps all. Directories that hold no projection.safetensors are none. kIo.
void remove_old_exports(const std::string& output_dir, int64_t keep, int64_t newest);

}  // namespace facet
