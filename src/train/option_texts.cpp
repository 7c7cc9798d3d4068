#include "train/option_texts.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "options/options.h"

namespace facet {

OptionTexts option_texts(const std::string& resolved) {
  OptionTexts options;
  std::istringstream stream(resolved);
  for (std::string line; std::getline(stream, line);) {
    const size_t equals = line.find(" =");
    if (line.starts_with('#') || equals == std::string::npos) continue;
    options[line.substr(0, equals)] = line.substr(std::min(line.size(), equals + 3));
  }
  return options;
}

std::string OptionChange::text() const {
  const auto shown = [](const std::string& value) { return value.empty() ? "(none)" : value; };
  return fmt::format("{}: {} -> {}", name, shown(before), shown(now));
}

std::vector<OptionChange> option_changes(const OptionTexts& before, const OptionTexts& now) {
  const OptionTexts defaults = option_texts(resolved_options(Command::kTrain, Options{}));
  std::vector<OptionChange> changes;
  for (const auto& [name, value] : now) {
    const auto found = before.find(name);
    const std::string& old = found != before.end() ? found->second : defaults.at(name);
    if (old != value) changes.push_back({name, old, value});
  }
  return changes;
}

}  // namespace facet
