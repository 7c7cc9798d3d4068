#include "train/log_columns.h"

namespace facet {

void CsvRow::end(fmt::memory_buffer& lines) {
  text_.push_back('\n');
  lines.append(text_);
  text_.clear();
  first_ = true;
}

namespace {

// A column that holds one member of the report.
template <typename Report, typename Member>
LogColumn<Report> plain(const char* name, Member Report::*member) {
  return {name, [member](CsvRow& row, const Report& report) { row.put(report.*member); }};
}

LogColumn<StepReport> of_phase(const char* name, StepPhase phase) {
  return {name, [phase](CsvRow& row, const StepReport& r) { row.put(r.phases.seconds(phase)); }};
}

// A data set without a labelled token has no loss.
template <typename Report>
void add_datasets(const std::vector<std::string>& names, LogColumns<Report>& columns) {
  for (size_t d = 0; d < names.size(); ++d)
    columns.push_back({"loss_" + names[d], [d](CsvRow& row, const Report& report) {
                         const LossOfDataset& dataset = report.datasets[d];
                         if (dataset.labelled_tokens > 0)
                           row.put(dataset.mean());
                         else
                           row.put_absent();
                       }});
  for (size_t d = 0; d < names.size(); ++d)
    columns.push_back({"labelled_tokens_" + names[d], [d](CsvRow& row, const Report& report) {
                         row.put(report.datasets[d].labelled_tokens);
                       }});
}

template <typename Report>
LogColumns<Report> where_and_when(const LogOrigin& origin) {
  return {plain("step", &Report::step),
          plain("epoch", &Report::epoch),
          {"start", [start = origin.start](CsvRow& row, const Report&) { row.put(start); }},
          {"time", [](CsvRow& row, const Report& r) { row.put(utc_text(r.end)); }}};
}

void add_learning_rates(const std::vector<std::string>& groups, LogColumns<StepReport>& columns) {
  for (size_t g = 0; g < groups.size(); ++g)
    columns.push_back({"lr_" + groups[g],
                       [g](CsvRow& row, const StepReport& r) { row.put(r.learning_rates[g]); }});
}

// Of what all ranks could have computed in that time.
void put_share_of_peak(CsvRow& row, const StepReport& report, double peak_flops) {
  if (peak_flops > 0 && report.seconds > 0)
    row.put(static_cast<double>(report.model_flops) / report.seconds / peak_flops);
  else
    row.put_absent();
}

template <typename Report>
void append(LogColumns<Report>& columns, LogColumns<Report> more) {
  columns.insert(columns.end(), std::make_move_iterator(more.begin()),
                 std::make_move_iterator(more.end()));
}

}  // namespace

LogColumns<StepReport> loss_columns(const std::vector<std::string>& group_names,
                                    const std::vector<std::string>& dataset_names,
                                    const LogOrigin& origin) {
  using R = StepReport;
  LogColumns<R> columns = where_and_when<R>(origin);
  append<R>(columns, {plain("micro_batches", &R::micro_batches),
                      plain("samples", &R::samples),
                      plain("tokens", &R::tokens),
                      plain("labelled_tokens", &R::labelled_tokens),
                      plain("loss", &R::loss),
                      plain("grad_norm", &R::grad_norm),
                      plain("clip_factor", &R::clip_factor),
                      plain("loss_scale", &R::loss_scale),
                      {"skipped", [](CsvRow& row, const R& r) { row.put(r.skipped ? 1 : 0); }}});
  add_learning_rates(group_names, columns);
  append<R>(columns, {plain("seconds", &R::seconds),
                      of_phase("data_seconds", StepPhase::kData),
                      of_phase("forward_seconds", StepPhase::kForward),
                      of_phase("backward_seconds", StepPhase::kBackward),
                      of_phase("reduce_seconds", StepPhase::kReduce),
                      of_phase("optimizer_seconds", StepPhase::kOptimizer),
                      plain("memory_bytes", &R::memory_bytes),
                      plain("model_flops", &R::model_flops),
                      {"mfu", [peak = origin.peak_flops](CsvRow& row, const R& r) {
                         put_share_of_peak(row, r, peak);
                       }}});
  add_datasets(dataset_names, columns);
  return columns;
}

LogColumns<EvalReport> eval_columns(const std::vector<std::string>& dataset_names,
                                    const LogOrigin& origin) {
  using R = EvalReport;
  LogColumns<R> columns = where_and_when<R>(origin);
  append<R>(columns, {plain("samples", &R::samples), plain("labelled_tokens", &R::labelled_tokens),
                      plain("loss", &R::loss), plain("seconds", &R::seconds)});
  add_datasets(dataset_names, columns);
  return columns;
}

}  // namespace facet
