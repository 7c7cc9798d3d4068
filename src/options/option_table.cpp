#include "options/option_table.h"

#include "options/option_groups.h"

namespace facet {

namespace {

std::vector<OptionField> make_table() {
  std::vector<OptionField> table;
  add_model_options(table);
  add_trained_options(table);
  add_data_options(table);
  add_steps_options(table);
  add_optimizer_options(table);
  add_ranks_options(table);
  add_output_options(table);
  add_generate_options(table);
  add_chat_options(table);
  add_plan_options(table);
  add_data_stats_options(table);
  add_bandwidth_options(table);
  return table;
}

}  // namespace

OptionField field(const char* name, OptionMember member, OptionGroup group, const char* commands,
                  OnResume on_resume, const char* help) {
  return OptionField{.name = name,
                     .member = member,
                     .group = group,
                     .commands = commands,
                     .on_resume = on_resume,
                     .help = help};
}

const std::vector<OptionField>& option_table() {
  static const std::vector<OptionField> kTable = make_table();
  return kTable;
}

const OptionField* find_option(const std::string& name) {
  for (const OptionField& field : option_table())
    if (name == field.name) return &field;
  return nullptr;
}

std::vector<std::string> option_names() {
  std::vector<std::string> names;
  for (const OptionField& f : option_table()) names.emplace_back(f.name);
  return names;
}

}  // namespace facet
