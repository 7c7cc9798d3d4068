// The options of group "Chat" in --help.
#include "options/option_groups.h"

namespace facet {

namespace {

using Group = OptionGroup;
using O = Options;
using enum OnResume;

}  // namespace

void add_chat_options(std::vector<OptionField>& t) {
  const auto chat = [&](const char* name, OptionMember member, const char* help) {
    return field(name, member, Group::kChat, "c", kNotOfTraining, help);
  };
  t.push_back(chat("history", &O::history,
                   "save the conversations to this new file after each answer, as generate --input "
                   "reads them, and the answers to FILE.answers.jsonl")
                  .new_file()
                  .usually_given());
  t.push_back(
      chat("max_images", &O::max_images, "images of a conversation at most").in(0, 1 << 16));
}

}  // namespace facet
