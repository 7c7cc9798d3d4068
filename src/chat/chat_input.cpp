#include "chat/chat_input.h"

#include <fmt/format.h>
#include <histedit.h>
#include <langinfo.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <thread>

#include "base/check.h"
#include "base/progress.h"
#include "base/utf8.h"
#include "job/stop_signals.h"

namespace facet {

namespace {

constexpr std::chrono::milliseconds kLook{50};
constexpr std::array<const char*, 2> kPrompts = {
    "Images (paths separated by blanks, `na` for none): ", "You: "};

const char* prompt_of(Asked asked) { return kPrompts[static_cast<size_t>(asked)]; }

// Whether the file is ready within a moment.
bool is_ready(int file, short event) {
  note_progress();
  pollfd waited{file, event, 0};
  return ::poll(&waited, 1, static_cast<int>(kLook.count())) > 0;
}

// ---- bytes

// Of stdin. Signals are taken by another thread and end no read(): it looks for them now and then.
class InputBytes {
 public:
  enum class Got : uint8_t { kByte, kInterrupt, kEnd };

  // From now on SIGINT is for whoever reads.
  void begin_line() { interrupts_before_ = interrupts(); }

  Got next(char& byte) {
    while (true) {
      if (interrupts() != interrupts_before_) return interrupted();
      if (at_ < bytes_) return byte = buffer_[at_++], Got::kByte;
      if (stop_signal() != nullptr) return Got::kEnd;
      if (!is_ready(STDIN_FILENO, POLLIN)) continue;
      const ssize_t count = ::read(STDIN_FILENO, buffer_.data(), buffer_.size());
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return Got::kEnd;
      at_ = 0;
      bytes_ = static_cast<size_t>(count);
    }
  }

 private:
  // What was typed before it goes too, as with the terminal's own buffer; not so of a file.
  Got interrupted() {
    interrupts_before_ = interrupts();
    if (::isatty(STDIN_FILENO) != 0) at_ = bytes_;
    return Got::kInterrupt;
  }

  std::array<char, 4096> buffer_{};
  size_t at_ = 0, bytes_ = 0;
  int64_t interrupts_before_ = 0;
};

// It may be a signal that ends the process: that is for the watchdog to do.
TypedLine end_of_input() {
  print_at_once("\n");
  while (signal_that_ends() != 0) std::this_thread::sleep_for(kLook);
  return {TypedLine::Kind::kEnd};
}

TypedLine interrupted(std::string given_up) {
  print_at_once("^C\n");
  return {TypedLine::Kind::kInterrupted, std::move(given_up)};
}

// ---- a pipe or a file

class PlainInput final : public ChatInput {
 public:
  TypedLine read(Asked asked) override {
    print_at_once(prompt_of(asked));
    bytes_.begin_line();
    std::string text;
    for (char c = 0; c != '\n'; text += c) {
      const InputBytes::Got got = bytes_.next(c);
      if (got == InputBytes::Got::kInterrupt) return interrupted(std::move(text));
      if (got == InputBytes::Got::kByte) continue;
      if (text.empty()) return end_of_input();
      c = '\n';  // the last line may lack its end
    }
    text.pop_back();
    return {TypedLine::Kind::kLine, std::move(text)};
  }

 private:
  InputBytes bytes_;
};

// ---- a terminal

// libedit counts columns and converts text by the locale. Names of files and questions are UTF-8
// here, whatever the batch system has left of LANG.
void use_utf8_locale() {
  std::setlocale(LC_CTYPE, "");
  if (std::string_view(nl_langinfo(CODESET)) != "UTF-8") std::setlocale(LC_CTYPE, "C.UTF-8");
}

// Around text that is pasted the terminal sends ESC [ 2 0 0 ~ and ESC [ 2 0 1 ~ ("bracketed paste"
// of xterm, which all terminals in use have), so that its line ends can be told from the enter key.
constexpr const char* kPasteBegins = "\\e[200~";  // as libedit writes keys
constexpr std::string_view kPasteEnds = "\x1b[201~";
constexpr const char* kAskForBrackets = "\x1b[?2004h";
constexpr const char* kNoMoreBrackets = "\x1b[?2004l";

// Not in an editor's shell window, say, which would show what it does not know.
bool knows_brackets() {
  const char* const terminal = std::getenv("TERM");
  return terminal != nullptr && *terminal != '\0' && std::string_view(terminal) != "dumb";
}

// The text between them as it goes into a line: line ends are \n, none at the end; other control
// characters, which the terminal would obey, are left out, and what is no UTF-8 is U+FFFD.
std::string cleaned(std::string_view pasted) {
  std::string text;
  while (!pasted.empty()) {
    const Utf8Character first = utf8_character(pasted);
    const char c = pasted[0];
    if (first.length == 0)
      append_utf8(text, 0xFFFD);
    else if (c == '\r' || c == '\n')
      text += '\n';
    else if (first.length > 1 || c == '\t' || (c >= ' ' && c != '\x7f'))
      text += pasted.substr(0, first.length);
    pasted.remove_prefix(first.length > 1 ? first.length : 1);
  }
  return text.substr(0, text.find_last_not_of('\n') + 1);
}

class TerminalInput final : public ChatInput {
 public:
  TerminalInput() {
    use_utf8_locale();
    for (const Asked asked : {Asked::kImages, Asked::kQuestion}) open(asked);
    el_set(editor(Asked::kImages), EL_BIND, "^I", "complete", nullptr);
  }

  TypedLine read(Asked asked) override;

 private:
  using Editor = std::unique_ptr<EditLine, decltype(&el_end)>;
  using Lines = std::unique_ptr<History, decltype(&history_end)>;

  EditLine* editor(Asked asked) { return editors_[static_cast<size_t>(asked)].get(); }
  void open(Asked asked);
  void remember(Asked asked, const std::string& text);
  int next_character(wchar_t& character);
  std::string pasted_text();

  static TerminalInput& of(EditLine* editor) {
    void* self = nullptr;
    el_get(editor, EL_CLIENTDATA, &self);
    return *static_cast<TerminalInput*>(self);
  }
  // What libedit calls.
  static char* prompt(EditLine* editor);
  static int read_character(EditLine* editor, wchar_t* character);
  static unsigned char insert_paste(EditLine* editor, int);

  InputBytes bytes_;
  const bool has_brackets_ = knows_brackets();
  bool interrupted_ = false;
  Asked asked_ = Asked::kImages;
  std::array<Editor, 2> editors_{Editor(nullptr, el_end), Editor(nullptr, el_end)};
  std::array<Lines, 2> lines_{Lines(nullptr, history_end), Lines(nullptr, history_end)};
};

void TerminalInput::open(Asked asked) {
  constexpr int kKept = 1000;
  Editor& editor = editors_[static_cast<size_t>(asked)];
  Lines& lines = lines_[static_cast<size_t>(asked)];
  editor.reset(el_init("facet", stdin, stdout, stderr));
  lines.reset(history_init());
  CHECK(editor && lines, ExitCode::kSystem, "libedit cannot edit lines on this terminal");
  HistEvent event;
  history(lines.get(), &event, H_SETSIZE, kKept);
  history(lines.get(), &event, H_SETUNIQUE, 1);
  EditLine* el = editor.get();
  el_set(el, EL_CLIENTDATA, this);
  el_set(el, EL_PROMPT, prompt);
  el_set(el, EL_GETCFN, read_character);
  el_set(el, EL_EDITOR, "emacs");
  el_set(el, EL_HIST, history, lines.get());
  el_set(el, EL_ADDFN, "complete", "completes the name of a file", _el_fn_complete);
  el_set(el, EL_ADDFN, "insert-paste", "inserts what is pasted", insert_paste);
  el_source(el, nullptr);  // ~/.editrc
  el_set(el, EL_BIND, kPasteBegins, "insert-paste", nullptr);
}

char* TerminalInput::prompt(EditLine* editor) {
  return const_cast<char*>(prompt_of(of(editor).asked_));  // libedit only reads it
}

int TerminalInput::read_character(EditLine* editor, wchar_t* character) {
  el_resize(editor);  // the window may have another size than at the last key
  return of(editor).next_character(*character);
}

// 1, or at the end of the input and after an interruption 0. Bytes that are no UTF-8 are U+FFFD.
int TerminalInput::next_character(wchar_t& character) {
  std::string bytes(1, '\0');
  const auto more = [&](char& byte) {
    const InputBytes::Got got = bytes_.next(byte);
    interrupted_ = interrupted_ || got == InputBytes::Got::kInterrupt;
    return got == InputBytes::Got::kByte;
  };
  if (!more(bytes[0])) return 0;
  // So the system hands on a Ctrl-D that was typed before the terminal was in this mode.
  if (bytes[0] == '\0') bytes[0] = '\x04';
  const auto lead = static_cast<unsigned char>(bytes[0]);
  const size_t length = lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  while (bytes.size() < length)
    if (bytes.push_back('\0'); !more(bytes.back())) return 0;
  const Utf8Character read = utf8_character(bytes);
  character = static_cast<wchar_t>(read.length > 0 ? read.code : 0xFFFD);
  return 1;
}

std::string TerminalInput::pasted_text() {
  std::string text;
  for (char c = 0; !text.ends_with(kPasteEnds); text += c) {
    const InputBytes::Got got = bytes_.next(c);
    interrupted_ = interrupted_ || got == InputBytes::Got::kInterrupt;
    if (got != InputBytes::Got::kByte) return "";
  }
  text.resize(text.size() - kPasteEnds.size());
  return cleaned(text);
}

unsigned char TerminalInput::insert_paste(EditLine* editor, int) {
  TerminalInput& self = of(editor);
  const std::string text = self.pasted_text();
  if (self.interrupted_) return CC_EOF;
  return !text.empty() && el_insertstr(editor, text.c_str()) == 0 ? CC_REFRESH : CC_ERROR;
}

void TerminalInput::remember(Asked asked, const std::string& text) {
  if (text.find_first_not_of(" \t\n") == std::string::npos) return;
  HistEvent event;
  history(lines_[static_cast<size_t>(asked)].get(), &event, H_ENTER, text.c_str());
}

// While a line is edited the terminal is in a mode of its own, in which no signal may end the
// process.
TypedLine TerminalInput::read(Asked asked) {
  asked_ = asked;
  interrupted_ = false;
  bytes_.begin_line();
  set_meaning_of_stop_signals(OnSignal::kSaveAndStop);
  if (has_brackets_) print_at_once(kAskForBrackets);
  int length = 0;
  const char* const typed = el_gets(editor(asked), &length);
  if (has_brackets_) print_at_once(kNoMoreBrackets);
  set_meaning_of_stop_signals(OnSignal::kEndNow);
  if (interrupted_) {
    const LineInfo* const given_up = el_line(editor(asked));
    return interrupted({given_up->buffer, given_up->lastchar});
  }
  if (typed == nullptr || length <= 0) return end_of_input();
  std::string text(typed, static_cast<size_t>(length));
  if (text.ends_with('\n')) text.pop_back();
  remember(asked, text);
  return {TypedLine::Kind::kLine, std::move(text)};
}

}  // namespace

void print_at_once(std::string_view text) {
  constexpr size_t kPiece = 512;  // for which a pipe that is ready has room
  std::fflush(stdout);
  while (!text.empty()) {
    if (!is_ready(STDOUT_FILENO, POLLOUT)) continue;
    const ssize_t count = ::write(STDOUT_FILENO, text.data(), std::min(kPiece, text.size()));
    CHECK(count >= 0 || errno == EINTR, ExitCode::kIo, "stdout cannot be written: {}",
          std::strerror(errno));
    text.remove_prefix(static_cast<size_t>(std::max<ssize_t>(count, 0)));
  }
}

std::unique_ptr<ChatInput> open_chat_input() {
  if (::isatty(STDIN_FILENO) != 0 && ::isatty(STDOUT_FILENO) != 0)
    return std::make_unique<TerminalInput>();
  return std::make_unique<PlainInput>();
}

}  // namespace facet
