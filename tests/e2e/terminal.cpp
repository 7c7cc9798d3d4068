// Runs a command on a pseudo-terminal and types at it, for the tests of facet chat.
// usage: terminal COMMAND... <SCRIPT >TRANSCRIPT
//
// The script, line by line:
//   wait TEXT     until the command has printed that, behind what was waited for before; of a
//   prompt of
//                 facet chat until it edits the line too, for two seconds: reading plainly it does
//                 not
//   type TEXT     types the text and presses the enter key
//   keys TEXT     types the text alone, in which \e, \r, \n, \t, \\ and \xNN stand for such bytes
//   kill N        sends the command signal N
//   echoes        until the terminal is as it was at first: the system echoes and edits lines
// At its end the command is given time to end, too. The exit code is that of the command, 128 and
// the number for a signal; 99 where something did not come within half a minute.
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kPatience{30};
constexpr int kGaveUp = 99;

int master = -1;
pid_t child = -1;
std::string unread;  // what was printed and not yet waited for

[[noreturn]] void give_up(const std::string& what) {
  std::fflush(stdout);
  std::cerr << "terminal: " << what << "\n";
  if (child > 0) kill(child, SIGKILL);
  std::exit(kGaveUp);
}

void start(char** command) {
  master = posix_openpt(O_RDWR | O_NOCTTY);
  if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) give_up("no terminal");
  const std::string name = ptsname(master);
  child = fork();
  if (child > 0) return;
  setsid();
  const int terminal = open(name.c_str(), O_RDWR);
  winsize size{};
  size.ws_col = 80;
  size.ws_row = 24;
  ioctl(terminal, TIOCSCTTY, 0);
  ioctl(terminal, TIOCSWINSZ, &size);
  for (const int fd : {0, 1, 2}) dup2(terminal, fd);
  close(terminal);
  close(master);
  execvp(command[0], command);
  _exit(127);
}

// Takes what is printed within a moment; false: the command has closed the terminal.
bool take_output() {
  pollfd output{master, POLLIN, 0};
  if (poll(&output, 1, 50) == 0) return true;
  char buffer[4096];
  const ssize_t count = read(master, buffer, sizeof buffer);
  if (count <= 0) return false;
  std::fwrite(buffer, 1, static_cast<size_t>(count), stdout);
  unread.append(buffer, static_cast<size_t>(count));
  return true;
}

void wait_for(const std::string& text) {
  const auto end = Clock::now() + kPatience;
  for (size_t at = 0; (at = unread.find(text)) == std::string::npos;)
    if (!take_output() || Clock::now() > end) give_up("'" + text + "' did not come");
  unread.erase(0, unread.find(text) + text.size());
}

// The terminal takes a few thousand bytes until they are read; meanwhile output is taken.
void send(const std::string& bytes) {
  for (size_t done = 0; done < bytes.size();) {
    const size_t piece = std::min<size_t>(256, bytes.size() - done);
    const ssize_t count = write(master, bytes.data() + done, piece);
    if (count <= 0) give_up("nothing can be typed");
    done += static_cast<size_t>(count);
    take_output();
  }
}

std::string bytes_of(const std::string& keys) {
  std::string bytes;
  for (size_t i = 0; i < keys.size(); ++i) {
    if (keys[i] != '\\') {
      bytes += keys[i];
      continue;
    }
    switch (keys.at(++i)) {
      case 'e': bytes += '\x1b'; break;
      case 'r': bytes += '\r'; break;
      case 'n': bytes += '\n'; break;
      case 't': bytes += '\t'; break;
      case 'x':
        bytes += static_cast<char>(std::stoi(keys.substr(i + 1, 2), nullptr, 16)), i += 2;
        break;
      default: bytes += keys[i];
    }
  }
  return bytes;
}

bool echoes() {
  termios settings{};
  const tcflag_t usual = ECHO | ICANON | ISIG;
  return tcgetattr(master, &settings) == 0 && (settings.c_lflag & usual) == usual;
}

void wait_until_it_echoes() {
  const auto end = Clock::now() + kPatience;
  while (!echoes()) {
    take_output();
    if (Clock::now() > end) give_up("the terminal is not as it was");
  }
}

// Keys that come before the terminal is in its mode for editing are not edited.
void wait_until_it_edits() {
  const auto end = Clock::now() + std::chrono::seconds(2);
  for (termios settings{}; Clock::now() < end; take_output())
    if (tcgetattr(master, &settings) == 0 && (settings.c_lflag & ICANON) == 0) return;
}

void obey(const std::string& line) {
  const size_t blank = std::min(line.find(' '), line.size());
  const std::string word = line.substr(0, blank);
  const std::string rest = line.substr(std::min(blank + 1, line.size()));
  if (word == "wait") {
    wait_for(rest);
    if (rest.starts_with("Images (") || rest.starts_with("You: ")) wait_until_it_edits();
  } else if (word == "type")
    send(rest + "\r");
  else if (word == "keys")
    send(bytes_of(rest));
  else if (word == "kill")
    kill(child, std::stoi(rest));
  else if (word == "echoes")
    wait_until_it_echoes();
  else
    give_up("what is '" + line + "'?");
}

int exit_code() {
  const auto end = Clock::now() + kPatience;
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    take_output();
    if (Clock::now() > end) give_up("the command does not end");
  }
  for (pollfd output{master, POLLIN, 0}; poll(&output, 1, 0) > 0 && take_output();) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) give_up("no command");
  start(argv + 1);
  for (std::string line; std::getline(std::cin, line);)
    if (!line.empty()) obey(line);
  return exit_code();
}
