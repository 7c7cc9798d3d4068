#include "checkpoint/hugging_face.h"
#include "checkpoint/model_choices.h"
#include "checkpoint/weight_origins.h"

namespace facet {

std::vector<std::string> check_pretrained(const ParamTable& table, const VlmConfig& config,
                                          const PretrainedSources& sources) {
  return WeightOrigins(table, config, sources, 0).unused();
}

LoadReport load_pretrained(ParamTable& table, const VlmConfig& config,
                           const PretrainedSources& sources, uint64_t seed,
                           const OpenUnit& open_unit) {
  const WeightOrigins origins(table, config, sources, seed);
  LoadReport report;
  report.projection_file = origins.projection_file();
  report.read_from = origins.read_from();
  report.unused = origins.unused();
  report.differing_choices = differing_choices(config, origins.metadata());
  int open = kNoUnit;
  for (Param& param : table.params()) {
    if (param.unit != open) open_unit(open = param.unit);
    if (origins.is_drawn(param)) {
      ParamTable::draw(param, seed);
      report.drawn.push_back(param.name);
      continue;
    }
    origins.read(param, 0, param.numel(), param.value.f32());
    if (const int64_t rows = origins.added_rows(param); rows > 0) report.added_token_rows = rows;
  }
  open_unit(kNoUnit);
  return report;
}

}  // namespace facet
