#include "job/command_output.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/check.h"
#include "base/progress.h"
#include "base/timer.h"

namespace facet {

namespace {

std::string without_blanks_around(const std::string& text) {
  constexpr const char* kBlanks = " \t\r\n";
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(kBlanks) + 1 - begin);
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// In a process group of its own, so that it can be killed with its children, and with no signal
// blocked.
struct SpawnSettings {
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;

  explicit SpawnSettings(int output) {
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, output, STDERR_FILENO);
    posix_spawnattr_init(&attributes);
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
  }
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
};

// A running program and the pipe that it prints into.
class Child {
 public:
  Child(std::vector<std::string> words, std::vector<std::string> environment) {
    int ends[2];
    CHECK(::pipe2(ends, O_CLOEXEC) == 0, ExitCode::kMissingInput, "{} cannot be started: {}",
          words[0], std::strerror(errno));
    output_ = ends[0];
    ::fcntl(output_, F_SETFL, O_NONBLOCK);
    const SpawnSettings settings(ends[1]);
    const int error = ::posix_spawnp(&pid_, words[0].c_str(), &settings.files, &settings.attributes,
                                     pointers_to(words).data(), pointers_to(environment).data());
    ::close(ends[1]);
    if (error == 0) return;
    ::close(output_);
    fail(ExitCode::kMissingInput, "{} cannot be started: {}", words[0], std::strerror(error));
  }
  ~Child() {
    if (!ended_) {
      ::kill(-pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    ::close(output_);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  // Takes what it has printed, and waits a moment if that is nothing.
  void read(std::string& text) const {
    constexpr size_t kMostBytes = 1 << 16;  // as many as a pipe holds
    constexpr int kMoment = 20;             // milliseconds
    pollfd ready{output_, POLLIN, 0};
    ::poll(&ready, 1, kMoment);
    std::vector<char> piece(kMostBytes);
    const ssize_t count = ::read(output_, piece.data(), piece.size());
    if (count > 0)
      text.append(piece.data(), std::min(piece.size() - text.size(), static_cast<size_t>(count)));
    if ((ready.revents & POLLHUP) != 0) ::usleep(1000 * kMoment);  // it ends, or has closed stdout
  }
  bool ended() {
    ended_ = ended_ || ::waitpid(pid_, &status_, WNOHANG) == pid_;
    return ended_;
  }
  int code() const { return WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_); }

 private:
  pid_t pid_ = 0;
  int output_ = -1, status_ = 0;
  bool ended_ = false;
};

}  // namespace

CommandEnd run_command(const std::vector<std::string>& words,
                       const std::vector<std::string>& environment, double seconds) {
  const Timer timer;
  Child child(words, environment);
  CommandEnd end;
  for (bool ended = false; !ended;) {
    CHECK(timer.seconds() < seconds, ExitCode::kMissingInput, "{} did not answer within {:g} s",
          words[0], seconds);
    ended = child.ended();
    child.read(end.text);  // after the end too: what is left
    note_progress();
  }
  end.code = child.code();
  end.text = without_blanks_around(end.text);
  return end;
}

}  // namespace facet
