// Drawn scenes for first trials and for the demo: one or two coloured shapes on a plain background,
// and sentences that say exactly what is drawn.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/rng.h"
#include "data/image.h"

namespace facet::tiny {

inline constexpr std::array<std::string_view, 2> kSizes = {"small", "large"};
inline constexpr std::array<std::string_view, 6> kColors = {"red",    "green", "blue",
                                                            "yellow", "black", "purple"};
inline constexpr std::array<std::string_view, 4> kShapes = {"circle", "square", "triangle",
                                                            "cross"};
inline constexpr std::array<std::string_view, 9> kPlaces = {
    "at the top left",    "at the top center",    "at the top right",
    "at the middle left", "at the middle center", "at the middle right",
    "at the bottom left", "at the bottom center", "at the bottom right"};

constexpr int64_t kImageSide = 96;  // pixels of a drawn file

// One shape; the fields are indices into the lists above.
struct Thing {
  int size = 0, color = 0, shape = 0, place = 0;
};

// Things stand at different places, in the order of the places.
using Scene = std::vector<Thing>;

std::string noun(const Thing& thing);     // "large red circle"
std::string place(const Thing& thing);    // "at the top left"
std::string caption(const Scene& scene);  // "a large red circle at the top left and a ..."

// 96 x 96 pixels; brightness of the background, exact size and exact place are drawn too.
RgbImage draw(const Scene& scene, RandomStream& draws);

// Which combinations of colour, shape and place are never shown in training. Every single colour,
// shape and place is, and most pairs of them are.
class HeldOut {
 public:
  static constexpr int kCombinations = 30;
  explicit HeldOut(uint64_t seed);

  bool contains(const Thing& thing) const;
  // All held-out things, each size of each combination: 60.
  std::vector<Thing> things() const;

 private:
  std::vector<bool> held_out_;  // (colours * shapes * places)
};

// A scene of one or two things outside (training) the held-out combinations.
Scene random_scene(int num_things, const HeldOut& held_out, RandomStream& draws);

}  // namespace facet::tiny
