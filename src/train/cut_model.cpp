#include "train/cut_model.h"

#include <numeric>

#include "base/check.h"
#include "base/progress.h"

namespace facet {

namespace {

Tensor part_of(const Tensor& whole, const Param& wanted) {
  const ParamPart& part = wanted.part;
  if (!wanted.is_part()) return whole;
  const int64_t count = wanted.shape[part.axis];
  if (wanted.shape.size() == 1) return whole.range(part.begin, count);
  return part.axis == 0 ? whole.row_block(part.begin, count)
                        : whole.column_block(part.begin, count);
}

void copy_unit(const ParamUnit& to, const ParamUnit& from, Backend& ops) {
  ASSERT(to.params.size() == from.params.size(), "unit {} has {} parameters, and {} to copy",
         to.name, to.params.size(), from.params.size());
  for (size_t i = 0; i < to.params.size(); ++i) {
    const Param &param = *to.params[i], &whole = *from.params[i];
    ASSERT(param.name == whole.name, "{} would be a copy of {}", param.name, whole.name);
    if (param.numel() > 0) ops.copy(param.value, part_of(whole.value, param));
  }
}

}  // namespace

CutModel::CutModel(const Options& options, int rank)
    : setup_(declare_model(options, MissingTokenizer::kError,
                           {rank % options.inference_tp_size, options.inference_tp_size})) {
  ParamTable& table = setup_->table;
  table.set_trained("", false);
  table.allocate(1, ParamTable::Memory::kMeasureOnly, compute_dtype(options));
}

void CutModel::take_memory(Arena& arena) {
  ParamTable& table = setup_->table;
  for (size_t u = 0; u < table.units().size(); ++u) {
    const ParamUnit& unit = table.units()[u];
    table.bind_values(static_cast<int>(u), unit.trained_values,
                      arena.tensor({unit.frozen_values.numel()}, table.dtype()));
  }
}

void CutModel::fill(const ParamTable& whole, UnitWindow* window, Backend& ops) {
  const std::vector<ParamUnit>& units = setup_->table.units();
  ASSERT(units.size() == whole.units().size(), "{} units, and {} to copy", units.size(),
         whole.units().size());
  for (size_t u = 0; u < units.size(); ++u) {
    note_progress();
    if (window != nullptr) window->use(static_cast<int>(u));
    copy_unit(units[u], whole.units()[u], ops);
  }
}

UnitGroups single_units(const ParamTable& table) {
  std::vector<int> units(table.units().size());
  std::iota(units.begin(), units.end(), 0);
  return grouped_units(units, 0, 1);
}

}  // namespace facet
