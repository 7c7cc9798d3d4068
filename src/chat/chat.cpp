#include "chat/chat.h"

#include <fmt/format.h>

#include <cstdlib>
#include <optional>
#include <utility>

#include "base/log.h"
#include "base/printable.h"
#include "base/utf8.h"
#include "chat/answer_stream.h"
#include "chat/answering_models.h"
#include "chat/chat_history.h"
#include "chat/chat_input.h"
#include "chat/image_words.h"
#include "chat/sampling.h"
#include "chat/shared_input.h"
#include "chat/talk.h"
#include "job/stop_signals.h"
#include "options/option_table.h"
#include "train/compute_device.h"
#include "train/data_setup.h"
#include "train/measured_pass.h"
#include "train/progress_hooks.h"
#include "train/run_costs.h"
#include "train/stored_model.h"
#include "zero/rank_group.h"

namespace facet {

namespace {

constexpr const char* kHelp =
    "  na      no images: `na` or an empty line\n"
    "  undo    takes the last round back\n"
    "  clear   begins a new conversation\n"
    "  quit    ends; so does Ctrl-D\n"
    "Each alone on a line, at either prompt. Names of images with blanks in them: \"a b.jpg\" or\n"
    "a\\ b.jpg; ~/ is your home directory. Ctrl-C stops an answer, or gives up a line.\n";

// Line breaks and tabs stay; what else would move a terminal's cursor does not.
std::string shown(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const size_t end = std::min(text.find_first_of("\n\t"), text.size());
    result += printable(text.substr(0, end));
    if (end < text.size()) result += text[end];
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return result;
}

// All ranks are told the same lines and do the same; rank 0 alone shows and saves it.
class Chat {
 public:
  Chat(MpiSession& session, const ParsedOptions& parsed)
      : world_(session.world()),
        host_(session.host()),
        of_(answering_models(Command::kChat, parsed, world_).front()),
        options_(of_.options) {}

  void run();

 private:
  void open_model(const StoredModel* stored);
  void take_memory();
  void converse();
  void say(std::string_view text);
  bool obeys(const std::string& word);
  void take_back();
  void take_images(const std::string& line);
  void answer(const std::string& question);
  void tell(const std::optional<Answer>& answer);
  void save(const std::function<void()>& change);

  Communicator& world_;
  const std::string& host_;
  const AnsweringModel of_;
  const Options& options_;  // of that
  std::optional<ChatHistory> history_;
  std::optional<ComputeDevice> device_;
  std::optional<RankGroup> shares_;  // none: this rank has the whole model
  std::optional<Arena> arena_;
  std::unique_ptr<ModelSetup> model_;
  std::unique_ptr<PromptBuilder> prompt_;
  std::optional<RoundPieces> pieces_;
  ProgressHooks hooks_;
  std::optional<Context> context_;
  std::optional<Talk> talk_;
  Asked asked_ = Asked::kImages;
  std::vector<std::string> images_;  // of the question to come
};

void Chat::open_model(const StoredModel* stored) {
  model_ = declare_model(options_, MissingTokenizer::kError, {world_.rank(), world_.size()});
  if (stored == nullptr) model_->chat_template = chat_template_as_trained(options_);
  load_weights_as_trained(options_, *model_, world_, device_->plain(), stored);
  if (world_.size() > 1) {
    shares_.emplace(world_);
    log("{} ranks hold the language model together; of all weights a rank keeps {}", world_.size(),
        bytes_text(model_->table.bytes()));
  }
  prompt_ = make_prompt_builder(options_, *model_);
  pieces_.emplace(
      *model_, *prompt_,
      ConversationRules{options_.max_new_tokens, options_.max_seq_len, options_.max_image_pixels,
                        options_.stop_strings, false, false, ImageNumbers::kInText});
}

// Nobody knows what will be asked: for a whole conversation of --max_seq_len positions.
void Chat::take_memory() {
  UnitHooks hooks;
  PassMemory memory = measure({hooks, compute_dtype(options_)}, [&](Context& context) {
    Talk::run_largest_pieces(*pieces_, context, options_.max_images);
  });
  memory = with_rounding(memory);
  arena_.emplace("conversation", memory.activations, device_->memory());
  device_->allocate_panels(memory.panels);
  context_.emplace(Context{device_->layers(), *arena_, hooks_, compute_dtype(options_)});
  if (shares_) context_->group = &*shares_;
  talk_.emplace(*pieces_, *context_, [&](auto& work) { collectively(world_, work); });
}

// The history must not end the conversation that it is to keep.
void Chat::save(const std::function<void()>& change) {
  try {
    change();
  } catch (const Error& error) {
    warn("the history is not saved: {}", error.what());
  }
}

void Chat::say(std::string_view text) {
  if (world_.rank() == 0) print_at_once(text);
}

void Chat::take_back() {
  if (!talk_->undo()) return log_line("there is no round to take back");
  save([&] { history_->undo(); });
  log_line(fmt::format("the last round is taken back; rounds left: {}", talk_->rounds()));
}

// Whether the line was one of the words that are no answer to a prompt.
bool Chat::obeys(const std::string& word) {
  if (word == "help") {
    say(kHelp);
  } else if (word == "undo") {
    take_back();
  } else if (word == "clear") {
    talk_->clear();
    history_->begin_anew();
    log_line("a new conversation");
  } else {
    return false;
  }
  if (word != "help") asked_ = Asked::kImages;
  return true;
}

void Chat::take_images(const std::string& line) {
  images_.clear();
  const char* const home = std::getenv("HOME");
  collectively(world_, [&] {
    if (line != "na") images_ = words_of_images(line, home == nullptr ? "" : home);
    const auto count = static_cast<int64_t>(images_.size());
    CHECK(talk_->images() + count <= options_.max_images, ExitCode::kBadData,
          "{} images and {} before are more than --max_images {} of a conversation; `clear` begins "
          "another",
          count, talk_->images(), options_.max_images);
    pieces_->piece({}, images_, RoundPieces::Pixels::kFromFiles);  // can they be read?
  });
  asked_ = Asked::kQuestion;
}

void Chat::tell(const std::optional<Answer>& answer) {
  if (!answer)
    return log_line(fmt::format(
        "that does not fit: {} of --max_seq_len {} tokens are taken; `undo` takes the last round "
        "back, `clear` begins a new conversation",
        talk_->length(), options_.max_seq_len));
  switch (answer->stop_reason) {
    case StopReason::kInterrupted: return log_line("(stopped)");
    case StopReason::kMaxNewTokens:
      return log_line(fmt::format("(cut at --max_new_tokens {})", options_.max_new_tokens));
    case StopReason::kMaxSeqLen:
      return log_line(fmt::format("(cut at --max_seq_len {}: `undo` or `clear` makes room)",
                                  options_.max_seq_len));
    default: break;
  }
}

void Chat::answer(const std::string& question) {
  asked_ = Asked::kImages;
  GenerationRound round{question, fmt::format("{}", fmt::join(images_, " ")), images_};
  Sampler sampler(
      {options_.temperature, options_.top_k, options_.top_p, options_.repetition_penalty});
  RandomStream draws = draws_of(options_.seed, history_->name(), 0, talk_->rounds());
  const auto choose = [&](int64_t, std::span<const float> logits, std::span<const int32_t> said) {
    return sampler.pick(logits, said, draws);
  };
  AnswerStream stream(*pieces_);
  const int64_t interrupts_before = interrupts();
  const auto goes_on = [&](std::span<const int32_t> ids) {
    say(shown(stream.grown(ids)));
    const bool heard = interrupts() == interrupts_before;
    return world_.broadcast(int64_t{heard}, 0) != 0;
  };
  const std::optional<Answer> answer = talk_->answer(round, choose, goes_on);
  if (answer) {
    say(shown(stream.rest(answer->text)) + "\n");
    save([&] { history_->add(round, *answer); });
  }
  tell(answer);
}

// Whatever is wrong with a line, all ranks hear of it and the conversation goes on without it. Any
// other error of one rank leaves the others waiting, and ends the job.
void Chat::converse() {
  SharedInput input(world_);
  bool interrupted = false;
  while (true) {
    const TypedLine typed = input.read(asked_);
    if (typed.kind == TypedLine::Kind::kEnd) return;
    if (typed.kind == TypedLine::Kind::kInterrupted) {
      if (interrupted && typed.text.empty()) return;
      if (typed.text.empty()) log_line("Ctrl-C once more, Ctrl-D or `quit` ends");
      interrupted = true;
      continue;
    }
    interrupted = false;
    const std::string line = without_outer_blanks(typed.text);
    if (line == "quit") return;
    if (obeys(line)) continue;
    try {
      collectively(world_, [&] { CHECK(is_utf8(line), ExitCode::kBadData, "that is not UTF-8"); });
      if (asked_ == Asked::kImages)
        take_images(line);
      else if (!line.empty())
        answer(line);
    } catch (const CollectiveError& error) {
      if (error.code() != ExitCode::kBadData && error.code() != ExitCode::kMissingInput) throw;
      log_line(error.what());
    }
  }
}

void Chat::run() {
  advise_on_memory(kAnswersTakeLess);
  collectively(world_, [&] {
    check_paths(Command::kChat, options_);
    history_.emplace(world_.rank() == 0 ? options_.history : "");
  });
  device_.emplace(open_compute_device(options_, world_, host_));
  {
    const std::unique_ptr<StoredModel> stored =
        of_.stored ? open_stored_model(*of_.stored, world_) : nullptr;
    collectively(world_, [&] { open_model(stored.get()); });
  }
  collectively(world_, [&] { take_memory(); });
  begin_section(Section::kCompute);
  log_line("`help` shows what can be typed, `quit` ends");
  count_interrupts();
  converse();
}

}  // namespace

void chat(MpiSession& session, const ParsedOptions& parsed) { Chat(session, parsed).run(); }

}  // namespace facet
