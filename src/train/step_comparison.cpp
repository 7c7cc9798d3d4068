#include "train/step_comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace facet {

namespace {

constexpr const char* kNone = "none";  // in a table, for a cell that is empty or not there

struct NamedText {
  std::string name, text;
};

// As LossLog prints them; the sign of a NaN means nothing.
template <typename T>
NamedText named(std::string name, const T& value) {
  return {std::move(name), fmt::format("{}", value)};
}
NamedText named(std::string name, double value) {
  return {std::move(name), std::isnan(value) ? "nan" : fmt::format("{}", value)};
}

std::vector<NamedText> values_of(const StepReport& r, const std::vector<std::string>& groups,
                                 const std::vector<std::string>& datasets) {
  std::vector<NamedText> values = {
      named("step", r.step),
      named("epoch", r.epoch),
      named("micro_batches", r.micro_batches),
      named("samples", r.samples),
      named("tokens", r.tokens),
      named("labelled_tokens", r.labelled_tokens),
      named("loss", r.loss),
      named("grad_norm", r.grad_norm),
      named("clip_factor", r.clip_factor),
      named("loss_scale", r.loss_scale),
      named("skipped", r.skipped ? 1 : 0),
  };
  for (size_t g = 0; g < groups.size(); ++g)
    values.push_back(named("lr_" + groups[g], r.learning_rates[g]));
  for (size_t d = 0; d < datasets.size(); ++d) {
    const LossOfDataset& of_set = r.datasets[d];
    const std::string& name = datasets[d];
    values.push_back(of_set.labelled_tokens > 0 ? named("loss_" + name, of_set.mean())
                                                : NamedText{"loss_" + name, ""});
    values.push_back(named("labelled_tokens_" + name, of_set.labelled_tokens));
  }
  return values;
}

std::string logged_text(const LogTable& log, size_t row, const NamedText& value) {
  if (!log.has(value.name)) return kNone;
  const std::string& text = log.text(row, value.name);
  if (text == "-nan") return "nan";
  return value.text.empty() && text == "0" ? "" : text;
}

std::string shown(const std::string& text) { return text.empty() ? kNone : text; }

}  // namespace

std::vector<ComparedValue> compare_with_log(const StepReport& report, const LogTable& log,
                                            size_t row, const std::vector<std::string>& groups,
                                            const std::vector<std::string>& datasets) {
  std::vector<ComparedValue> compared;
  for (const NamedText& value : values_of(report, groups, datasets)) {
    const std::string logged = logged_text(log, row, value);
    compared.push_back({value.name, shown(value.text), shown(logged), value.text == logged});
  }
  return compared;
}

bool all_equal(const std::vector<ComparedValue>& values) {
  return std::all_of(values.begin(), values.end(),
                     [](const ComparedValue& value) { return value.equal; });
}

std::string differences_text(const std::vector<ComparedValue>& values) {
  std::string text;
  for (const ComparedValue& value : values)
    if (!value.equal)
      text += fmt::format("{}{}={} (the log has {})", text.empty() ? "" : ", ", value.column,
                          value.now, value.logged);
  return text;
}

std::string table_text(const std::vector<ComparedValue>& values) {
  std::string text;
  for (const ComparedValue& value : values)
    text += fmt::format("{}  {:<32}{:<24}{}", text.empty() ? "" : "\n", value.column, value.now,
                        value.equal ? "as in the log" : "the log has " + value.logged);
  return text;
}

}  // namespace facet
