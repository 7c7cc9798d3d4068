// The answers of a call of facet generate that is not finished yet, beside the file that it will
// write: OUTPUT.unfinished/ holds "about", whose text says of which questions, model and options
// they are, and a file of lines (chat/generate_io.h) for each rank of each start. A call that was
// killed goes on from there.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "chat/generate_io.h"
#include "comm/communicator.h"

namespace facet {

class AnswerJournal {
 public:
  // Collective: opens the directory, or creates it. If it has answers of another `identity`, that
  // is Error(kConfig): they are neither mixed with others nor thrown away.
  AnswerJournal(std::string output, const std::string& identity, Communicator& world);

  // The conversations that were finished in earlier starts, the same on all ranks; each once. What
  // a killed process left of a line is ignored.
  const std::vector<AnsweredTest>& finished() const { return finished_; }

  // Of this rank: a conversation that has just been finished.
  void append(const AnsweredTest& answered) const;
  // By one rank, once the output is written.
  void remove() const;

 private:
  void claim(const std::string& identity, bool has_answers) const;
  std::string whole_lines() const;

  std::string directory_;
  std::string path_;  // of this rank's file of this start
  std::vector<AnsweredTest> finished_;
};

}  // namespace facet
