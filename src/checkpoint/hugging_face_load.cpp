#include <algorithm>
#include <vector>

#include "checkpoint/hugging_face.h"
#include "checkpoint/model_choices.h"
#include "checkpoint/weight_origins.h"

namespace facet {

namespace {

// The columns [begin, begin + count) of a matrix, from pieces of whole rows: many short reads far
// apart would take longer.
void read_columns(const ReadParam& read, const Param& whole, int64_t begin, Tensor out) {
  constexpr int64_t kPieceElements = int64_t{1} << 20;
  const int64_t rows = whole.shape[0], columns = whole.numel() / rows;
  const int64_t at_a_time = std::clamp<int64_t>(kPieceElements / columns, 1, rows);
  std::vector<float> piece(static_cast<size_t>(at_a_time * columns));
  for (int64_t row = 0; row < rows; row += at_a_time) {
    const int64_t count = std::min(at_a_time, rows - row);
    read(whole, row * columns, count * columns, piece.data());
    for (int64_t i = 0; i < count; ++i)
      std::copy_n(piece.data() + i * columns + begin, out.cols(),
                  out.f32() + (row + i) * out.cols());
  }
}

void read_part(const ReadParam& read, const Param& whole, const Param& param) {
  if (param.part.axis > 0) return read_columns(read, whole, param.part.begin, param.value);
  const int64_t width = param.numel() / param.shape[0];
  read(whole, param.part.begin * width, param.numel(), param.value.f32());
}

}  // namespace

std::vector<std::string> check_pretrained(const ParamTable& table, const VlmConfig& config,
                                          const PretrainedSources& sources) {
  return WeightOrigins(table, config, sources, 0).unused();
}

LoadReport load_pretrained(ParamTable& table, const VlmConfig& config,
                           const PretrainedSources& sources, uint64_t seed,
                           const OpenUnit& open_unit) {
  const WeightOrigins origins(table, config, sources, seed);
  const ReadParam read = [&](const Param& param, int64_t begin, int64_t count, float* out) {
    origins.read(param, begin, count, out);
  };
  LoadReport report;
  report.projection_file = origins.projection_file();
  report.read_from = origins.read_from();
  report.unused = origins.unused();
  report.differing_choices = differing_choices(config, origins.metadata());
  int open = kNoUnit;
  for (Param& param : table.params()) {
    if (param.unit != open) open_unit(open = param.unit);
    const Param whole = whole_of(param);
    const bool drawn = origins.is_drawn(param);
    if (drawn) report.drawn.push_back(param.name);
    if (param.is_part())
      read_part(read, whole, param);
    else if (drawn)
      ParamTable::draw(param, seed);
    else
      read(param, 0, param.numel(), param.value.f32());
    if (const int64_t rows = origins.added_rows(whole); rows > 0) report.added_token_rows = rows;
  }
  open_unit(kNoUnit);
  return report;
}

void fill(ParamTable& table, const ReadParam& read, const OpenUnit& open_unit) {
  int open = kNoUnit;
  for (Param& param : table.params()) {
    if (param.unit != open) open_unit(open = param.unit);
    if (param.is_part())
      read_part(read, whole_of(param), param);
    else
      read(param, 0, param.numel(), param.value.f32());
  }
  open_unit(kNoUnit);
}

}  // namespace facet
