// The groups of --help: each has a file option_group_NAME.cpp with its rows of the table.
#pragma once

#include <vector>

#include "options/option_table.h"

namespace facet {

// A row before what only some options have: .in(), .one_of(), .file(), ...
OptionField field(const char* name, OptionMember member, OptionGroup group, const char* commands,
                  OnResume on_resume, const char* help);

// Each appends the rows of its group, in the order of --help.
void add_model_options(std::vector<OptionField>& t);
void add_trained_options(std::vector<OptionField>& t);
void add_data_options(std::vector<OptionField>& t);
void add_steps_options(std::vector<OptionField>& t);
void add_optimizer_options(std::vector<OptionField>& t);
void add_ranks_options(std::vector<OptionField>& t);
void add_output_options(std::vector<OptionField>& t);
void add_generate_options(std::vector<OptionField>& t);
void add_chat_options(std::vector<OptionField>& t);
void add_plan_options(std::vector<OptionField>& t);
void add_data_stats_options(std::vector<OptionField>& t);
void add_bandwidth_options(std::vector<OptionField>& t);

}  // namespace facet
