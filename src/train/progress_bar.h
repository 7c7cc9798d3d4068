// A line that shows how far something is, rewritten in place. On a terminal only: elsewhere show()
// does nothing.
#pragma once

#include <cstdint>
#include <string>

namespace facet {

// 3723 -> "1:02:03"
std::string clock_text(double seconds);

// "[###############...............]  50 %  TEXT" in no more than `columns` columns: the bar
// shrinks, then the text is cut, which "..." at its end shows.
std::string bar_line(int64_t done, int64_t total, const std::string& text, int64_t columns);

// Whether a person sees what this process prints, also where a launcher stands in between.
bool shows_on_terminal();

class ProgressBar {
 public:
  ProgressBar();
  ~ProgressBar() { clear(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  bool on_terminal() const { return terminal_; }
  void show(int64_t done, int64_t total, const std::string& text);
  // Before any other line.
  void clear();

 private:
  bool terminal_;
  bool shown_ = false;
};

}  // namespace facet
