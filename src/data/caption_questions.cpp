#include <array>

#include "data/formats.h"

namespace facet {

namespace {

constexpr std::array<std::string_view, 24> kQuestions = {
    "Describe this picture.",
    "What does this picture show?",
    "What is going on here?",
    "Tell me what you can see.",
    "Give me a short description of this photo.",
    "Write a caption for this picture.",
    "Suggest one line that could stand below this photo.",
    "Put this scene into words.",
    "Which things are in this picture, and how do they relate to each other?",
    "Explain to someone who cannot see it what this image shows.",
    "Name what catches the eye first and what surrounds it.",
    "Summarise the picture.",
    "What would you say this photo is about?",
    "Who or what is shown here?",
    "Say what happens in this scene.",
    "Could you describe the scene for me?",
    "Could you caption this image?",
    "How would you describe this image to a friend?",
    "Sum the image up for me, please.",
    "Please say what is visible in the image.",
    "Please write a sentence that fits this picture.",
    "Report what this image contains.",
    "Give this image a fitting caption.",
    "What do you notice when you look at this picture?",
};

}  // namespace

std::string_view draw_caption_question(RandomStream& draws) {
  return kQuestions[draws.below(kQuestions.size())];
}

}  // namespace facet
