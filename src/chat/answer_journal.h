// The answers of a call of facet generate that is not finished yet, beside the file that it will
// write: OUTPUT.unfinished/ holds "about", whose text says of which questions, model and options
// they are, a file of lines (chat/generate_io.h) for each rank of each start, and run.lock while a
// call is at work there. A call that was killed goes on from there.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "chat/generate_io.h"
#include "comm/communicator.h"
#include "job/run_lock.h"

namespace facet {

class AnswerJournal {
 public:
  // Collective: opens the directory, or creates it. Answers of another `identity` there are
  // Error(kConfig): they are neither mixed with others nor thrown away. So is another call that is
  // at work there.
  AnswerJournal(const std::string& output, const std::string& identity, Communicator& world);
  // A call that has stored no answer leaves nothing.
  ~AnswerJournal();
  AnswerJournal(const AnswerJournal&) = delete;
  AnswerJournal& operator=(const AnswerJournal&) = delete;

  // The conversations that were finished in earlier starts, the same on all ranks; each once. What
  // a killed process left of a line is ignored.
  const std::vector<AnsweredTest>& finished() const { return finished_; }
  const std::string& directory() const { return directory_; }  // for messages

  // Of this rank: a conversation that has just been finished.
  void append(const AnsweredTest& answered) const;
  // By rank 0, once the output is written: its own files, and the directory unless others lie
  // there.
  void remove();

 private:
  void claim(const std::string& identity, bool has_answers) const;
  std::string whole_lines() const;

  std::string directory_;
  std::unique_ptr<RunLock> lock_;  // of rank 0
  std::string path_;               // of this rank's file of this start
  std::vector<AnsweredTest> finished_;
};

}  // namespace facet
