#include "data/conversation_record.h"

#include "base/check.h"
#include "data/formats.h"

namespace facet {

namespace {

enum class Role : uint8_t { kSystem, kQuestion, kAnswer };

// Turns in one of the two forms.
class Turns {
 public:
  explicit Turns(const JsonValue& record) : turns_(choose(record)) {
    if (!turns_.is_array()) turns_.reject("expected an array of turns");
  }

  int64_t size() const { return turns_.size(); }
  std::string_view text(int64_t turn) const { return turns_.at(turn).at(text_key_).as_string(); }

  Role role(int64_t turn) const {
    const JsonValue value = turns_.at(turn).at(role_key_);
    const std::string_view name = value.as_string();
    if (name == "human" || name == "user") return Role::kQuestion;
    if (name == "gpt" || name == "assistant") return Role::kAnswer;
    if (name == "system") return Role::kSystem;
    value.reject(fmt::format("the role {} is none of human, user, gpt, assistant, system",
                             name.substr(0, 40)));
  }

  // Checks the role, and returns the text.
  std::string_view text_of(int64_t turn, Role expected) const {
    if (role(turn) != expected)
      turns_.at(turn).reject(
          "human (user) asks and gpt (assistant) answers, by turns; system only at the begin");
    return text(turn);
  }

  [[noreturn]] void reject(const std::string& message) const { turns_.reject(message); }

 private:
  JsonValue choose(const JsonValue& record) {
    const auto conversations = record.find("conversations"), messages = record.find("messages");
    if (conversations.has_value() == messages.has_value())
      record.reject("expected one of the keys `conversations` and `messages`");
    role_key_ = conversations ? "from" : "role";
    text_key_ = conversations ? "value" : "content";
    return conversations ? *conversations : *messages;
  }

  const char* role_key_ = "";
  const char* text_key_ = "";
  JsonValue turns_;  // last: choose() sets the keys
};

// Gives the images to the rounds that ask for them.
void place_images(const Turns& turns, const std::vector<int64_t>& places,
                  const std::vector<ImageRef>& images, std::vector<RawRound>& rounds) {
  int64_t all = 0;
  for (const int64_t count : places) all += count;
  if (all == 0) {
    rounds[0].images = images;
    return;
  }
  if (all != static_cast<int64_t>(images.size()))
    turns.reject(fmt::format("{} image placeholders for {} images", all, images.size()));
  auto next = images.begin();
  for (size_t r = 0; r < rounds.size(); ++r) {
    rounds[r].images.assign(next, next + places[r]);
    next += places[r];
  }
}

}  // namespace

std::vector<std::string_view> image_names_of(const JsonValue& record) {
  const std::optional<JsonValue> image = record.find("image");
  if (!image || image->is_null()) return {};
  if (image->is_string() && image->as_string().empty()) return {};
  if (image->is_string()) return {image->as_string()};
  if (!image->is_array()) image->reject("expected a string or a list of strings");
  std::vector<std::string_view> names;
  for (const JsonValue name : *image) names.push_back(name.as_string());
  return names;
}

bool has_conversation(const JsonValue& record) {
  return record.find("conversations").has_value() || record.find("messages").has_value();
}

RawSample conversation_of(const JsonValue& record, const std::vector<ImageRef>& images) {
  const Turns turns(record);
  RawSample sample;
  int64_t turn = 0;
  if (turns.size() > 0 && turns.role(0) == Role::kSystem) sample.system_text = turns.text(turn++);
  std::vector<int64_t> places;
  for (; turn + 1 < turns.size(); turn += 2) {
    const std::string_view question = turns.text_of(turn, Role::kQuestion);
    RawRound& round = sample.rounds.emplace_back();
    round.question = clean_question(question);
    round.answer = turns.text_of(turn + 1, Role::kAnswer);
    places.push_back(count_image_places(question));
  }
  if (turn < turns.size()) turns.text_of(turn, Role::kQuestion);  // left out, but a question
  if (sample.rounds.empty()) turns.reject("expected at least a question and an answer");
  place_images(turns, places, images, sample.rounds);
  return sample;
}

}  // namespace facet
