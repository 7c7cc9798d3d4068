#include "chat/answer_console.h"

#include <fmt/format.h>

#include "base/log.h"

namespace facet {

void AnswerConsole::show(int64_t done) {
  if (!shows_) return;
  const double left = since_start_.seconds() / static_cast<double>(done) *
                      static_cast<double>(conversations_ - done);
  const std::string text = fmt::format("{} of this rank's {} conversations, {} left", done,
                                       conversations_, clock_text(left));
  if (bar_.on_terminal()) return bar_.show(done, conversations_, text);
  if (since_line_.seconds() < 60) return;
  since_line_.restart();
  log_line(text);
}

}  // namespace facet
