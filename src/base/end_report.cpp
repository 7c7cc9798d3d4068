#include "base/end_report.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <string_view>
#include <thread>

#include "base/printable.h"

namespace facet {

namespace {

using std::chrono::milliseconds;

// What was written to the file and not read by its reader; 0 if there is none, or none that the
// system tells.
int unread_bytes(int file) {
  struct stat status {};
  if (::fstat(file, &status) != 0) return 0;
  int bytes = 0;
  if (S_ISFIFO(status.st_mode) && ::ioctl(file, FIONREAD, &bytes) == 0) return bytes;
  if (S_ISSOCK(status.st_mode) && ::ioctl(file, SIOCOUTQ, &bytes) == 0) return bytes;
  return 0;
}

void wait_until_read(int file, milliseconds patience) {
  constexpr milliseconds kLook{1};
  for (milliseconds waited{0}; waited < patience && unread_bytes(file) > 0; waited += kLook)
    std::this_thread::sleep_for(kLook);
}

void write_all(int file, const std::string& text) {
  for (size_t done = 0; done < text.size();) {
    const ssize_t now = ::write(file, text.data() + done, text.size() - done);
    if (now < 0 && errno == EINTR) continue;
    if (now <= 0) return;
    done += static_cast<size_t>(now);
  }
}

std::string_view without_last_newline(std::string_view text) {
  return text.substr(0, text.size() - (text.ends_with('\n') ? 1 : 0));
}

// mpirun gives its ranks a terminal of their own for stdout and a pipe for stderr.
bool launcher_reads_a_terminal() {
  return ::isatty(STDOUT_FILENO) != 0 && ::isatty(STDERR_FILENO) == 0;
}

}  // namespace

void print_end_report(const std::string& message, const std::string& last_line,
                      milliseconds patience) {
  // What is unread on that terminal can't be asked for: the message may fall into a line of it, and
  // begins with a newline; the last line is given some time.
  constexpr milliseconds kTerminalTime{100};
  const bool terminal = launcher_reads_a_terminal();
  wait_until_read(STDOUT_FILENO, patience);
  if (!message.empty()) {
    wait_until_read(STDERR_FILENO, patience);  // so that the message is read in one piece
    write_all(STDERR_FILENO,
              (terminal ? "\n" : "") + printable_message(without_last_newline(message)) + '\n');
    wait_until_read(STDERR_FILENO, patience);
  }
  if (!last_line.empty())
    write_all(STDOUT_FILENO, printable(without_last_newline(last_line)) + '\n');
  wait_until_read(STDOUT_FILENO, patience);
  if (terminal) std::this_thread::sleep_for(kTerminalTime);
}

}  // namespace facet
