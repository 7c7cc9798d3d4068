// The conversations of a session of facet chat in files: what was asked, in the form that facet
// generate --input reads, and what was answered.
#pragma once

#include <string>
#include <vector>

#include "chat/generate_io.h"

namespace facet {

class ChatHistory {
 public:
  // Writes `path` and `path`.answers.jsonl; "": nothing is written. Error(kConfig) if one of them
  // is there already, kMissingInput if their directory is not.
  explicit ChatHistory(std::string path);

  // Of the conversation that is under way: "chat-1" and so on.
  const std::string& name() const { return tests_.back().name; }

  // Each writes both files anew; Error(kIo). The round is remembered all the same.
  void add(const GenerationRound& round, const Answer& answer);
  // Forgets the last round of the conversation that is under way.
  void undo();

  // Another conversation begins, unless nothing was said in this one.
  void begin_anew();

 private:
  void save() const;

  std::string path_;
  std::vector<GenerationTest> tests_ = {{"chat-1", {}}};
  std::vector<AnsweredTest> answers_ = {{}};  // to each test
};

}  // namespace facet
