// The last words of a process, and whether a reader as slow as a busy launcher gets them.
#include "base/end_report.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <thread>

namespace facet {
namespace {

using std::chrono::milliseconds;

// A process that says its last words, and this one, which reads them.
class Speaker {
 public:
  enum class Stdout { kPipe, kTerminal };

  Speaker(Stdout kind, const std::string& message, const std::string& last_line,
          milliseconds patience) {
    int out[2], err[2];
    if (kind == Stdout::kPipe ? pipe(out) : openpty(&out[0], &out[1], nullptr, nullptr, nullptr))
      throw std::runtime_error("no pipe");
    if (pipe(err) != 0) throw std::runtime_error("no pipe");
    pid_ = fork();
    if (pid_ == 0) {
      dup2(out[1], STDOUT_FILENO);
      dup2(err[1], STDERR_FILENO);
      for (const int file : {out[0], out[1], err[0], err[1]}) close(file);
      print_end_report(message, last_line, patience);
      _exit(0);
    }
    close(err[1]);
    keeps_terminal_ = out[1];  // else its text would be lost with the process
    out_ = out[0];
    err_ = err[0];
  }
  ~Speaker() {
    for (const int file : {out_, err_, keeps_terminal_}) close(file);
    if (pid_ > 0) end();
  }
  Speaker(const Speaker&) = delete;
  Speaker& operator=(const Speaker&) = delete;

  bool lives() {
    if (pid_ > 0 && waitpid(pid_, nullptr, WNOHANG) == pid_) pid_ = 0;
    return pid_ > 0;
  }
  void end() {
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  int unread_of_stdout() const {
    int bytes = 0;
    ioctl(out_, FIONREAD, &bytes);
    return bytes;
  }
  std::string read_stdout() { return read_some(out_); }
  std::string read_stderr() { return read_some(err_); }

 private:
  static std::string read_some(int file) {
    std::array<char, 4096> text;
    const ssize_t bytes = read(file, text.data(), text.size());
    return bytes > 0 ? std::string(text.data(), static_cast<size_t>(bytes)) : "";
  }
  int out_ = -1, err_ = -1, keeps_terminal_ = -1;
  pid_t pid_ = 0;
};

constexpr milliseconds kLong{60000}, kWhile{200};

// However late they are read, the message comes first, the last line after it, the end last.
TEST(EndReport, NothingEndsBeforeItIsRead) {
  Speaker speaker(Speaker::Stdout::kPipe, "error: in use", "EXIT code=78", kLong);
  std::this_thread::sleep_for(kWhile);
  EXPECT_EQ(speaker.unread_of_stdout(), 0);
  EXPECT_EQ(speaker.read_stderr(), "error: in use\n");
  std::this_thread::sleep_for(kWhile);
  EXPECT_TRUE(speaker.lives());
  EXPECT_EQ(speaker.read_stdout(), "EXIT code=78\n");
  speaker.end();
}

TEST(EndReport, AReaderThatNeverReadsIsNotWaitedForForEver) {
  Speaker speaker(Speaker::Stdout::kPipe, "error: in use", "EXIT code=78", kWhile);
  speaker.end();
  EXPECT_EQ(speaker.read_stderr(), "error: in use\n");
  EXPECT_EQ(speaker.read_stdout(), "EXIT code=78\n");
}

// As under mpirun, which mixes what it reads of the terminal and of the pipe piece by piece.
TEST(EndReport, BesideATerminalTheMessageBeginsALine) {
  Speaker speaker(Speaker::Stdout::kTerminal, "error: in use", "EXIT code=78", kLong);
  EXPECT_EQ(speaker.read_stderr(), "\nerror: in use\n");
  EXPECT_EQ(speaker.read_stdout(), "EXIT code=78\r\n");
  speaker.end();
}

TEST(EndReport, TheOutsideWorldBeginsNoLine) {
  Speaker speaker(Speaker::Stdout::kPipe, "error: a\nEXIT code=0\x1b[2J:\n  b\n",
                  "EXIT code=65 checkpoint=a\nEXIT code=0\n", kLong);
  EXPECT_EQ(speaker.read_stderr(), "error: a\\nEXIT code=0\\x1b[2J:\n  b\n");
  EXPECT_EQ(speaker.read_stdout(), "EXIT code=65 checkpoint=a\\nEXIT code=0\n");
  speaker.end();
}

}  // namespace
}  // namespace facet
