// What is typed to facet chat, line by line. On a terminal a line can be edited, lines before it
// come back, and the tab key completes names of files (libedit, which is BSD-licensed and has what
// GNU readline has, whose GPL would be that of the whole program); a pipe or a file is read as it
// comes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace facet {

// Writes to stdout at once. Waiting for a reader, or for a terminal that Ctrl-S has stopped, is
// progress for the watchdog. Error(kIo).
void print_at_once(std::string_view text);

enum class Asked : uint8_t { kImages, kQuestion };

struct TypedLine {
  enum class Kind : uint8_t {
    kLine,         // without its end; text that was pasted may have several lines
    kInterrupted,  // by SIGINT (job/stop_signals.h)
    kEnd,          // of the input
  };
  Kind kind = Kind::kLine;
  std::string text = {};  // of kInterrupted: what was given up
};

class ChatInput {
 public:
  virtual ~ChatInput() = default;
  // Shows the prompt for what is asked, on stdout, and waits for a line. Waiting is progress for
  // the watchdog.
  virtual TypedLine read(Asked asked) = 0;
};

// Of stdin; a terminal only if stdout is one too.
std::unique_ptr<ChatInput> open_chat_input();

}  // namespace facet
