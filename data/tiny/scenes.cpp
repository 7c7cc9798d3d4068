#include "data/tiny/scenes.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

namespace facet::tiny {
namespace {

constexpr int kOversampling = 3;  // points per pixel and axis, for smooth edges
constexpr double kCell = kImageSide / 3.0;
constexpr std::array<std::array<double, 3>, 6> kRgb = {
    {{220, 30, 30}, {30, 160, 50}, {30, 60, 220}, {235, 210, 20}, {15, 15, 15}, {150, 40, 170}}};

// A thing's place in the picture: centre and radius in pixels.
struct Outline {
  double x, y, radius;
  int shape;

  // Whether the point, measured from the centre in radii, is inside.
  bool contains(double px, double py) const {
    const double u = (px - x) / radius, v = (py - y) / radius;
    switch (shape) {
      case 0: return u * u + v * v <= 1;
      case 1: return std::max(std::abs(u), std::abs(v)) <= 0.86;
      case 2: return v >= -1 && v <= 0.8 && std::abs(u) <= (v + 1) * 0.55;
      default:
        return std::min(std::abs(u), std::abs(v)) <= 0.3 && std::max(std::abs(u), std::abs(v)) <= 1;
    }
  }
};

double between(double low, double high, RandomStream& draws) {
  return low + (high - low) * draws.uniform_double();
}

Outline random_outline(const Thing& thing, RandomStream& draws) {
  const double jitter = 0.08 * kCell;
  Outline outline{};
  outline.shape = thing.shape;
  outline.x = (thing.place % 3 + 0.5) * kCell + between(-jitter, jitter, draws);
  outline.y = (thing.place / 3 + 0.5) * kCell + between(-jitter, jitter, draws);
  outline.radius =
      kCell * (thing.size == 0 ? between(0.26, 0.30, draws) : between(0.40, 0.47, draws));
  return outline;
}

// The part of a pixel that the outline covers.
double coverage(const Outline& outline, int64_t x, int64_t y) {
  int inside = 0;
  for (int i = 0; i < kOversampling; ++i)
    for (int j = 0; j < kOversampling; ++j)
      inside += outline.contains(static_cast<double>(x) + (j + 0.5) / kOversampling,
                                 static_cast<double>(y) + (i + 0.5) / kOversampling);
  return static_cast<double>(inside) / (kOversampling * kOversampling);
}

size_t combination(const Thing& thing) {
  const auto color = static_cast<size_t>(thing.color), shape = static_cast<size_t>(thing.shape);
  return (color * kShapes.size() + shape) * kPlaces.size() + static_cast<size_t>(thing.place);
}

}  // namespace

std::string noun(const Thing& thing) {
  return fmt::format("{} {} {}", kSizes[static_cast<size_t>(thing.size)],
                     kColors[static_cast<size_t>(thing.color)],
                     kShapes[static_cast<size_t>(thing.shape)]);
}

std::string place(const Thing& thing) {
  return std::string(kPlaces[static_cast<size_t>(thing.place)]);
}

std::string caption(const Scene& scene) {
  std::string text;
  for (const Thing& thing : scene)
    text += fmt::format("{}a {} {}", text.empty() ? "" : " and ", noun(thing), place(thing));
  return text;
}

RgbImage draw(const Scene& scene, RandomStream& draws) {
  RgbImage image{kImageSide, kImageSide, {}};
  const auto background = static_cast<uint8_t>(200 + draws.below(56));
  image.pixels.assign(static_cast<size_t>(3 * kImageSide * kImageSide), background);
  for (const Thing& thing : scene) {
    const Outline outline = random_outline(thing, draws);
    uint8_t* pixel = image.pixels.data();
    for (int64_t y = 0; y < kImageSide; ++y)
      for (int64_t x = 0; x < kImageSide; ++x, pixel += 3) {
        const double part = coverage(outline, x, y);
        for (size_t c = 0; c < 3; ++c)
          pixel[c] = static_cast<uint8_t>(std::lround(
              pixel[c] * (1 - part) + kRgb[static_cast<size_t>(thing.color)][c] * part));
      }
  }
  return image;
}

HeldOut::HeldOut(uint64_t seed) : held_out_(kColors.size() * kShapes.size() * kPlaces.size()) {
  const std::vector<int64_t> order =
      random_permutation(static_cast<int64_t>(held_out_.size()), RandomStream(seed, "held out"));
  for (size_t i = 0; i < kCombinations; ++i) held_out_[static_cast<size_t>(order[i])] = true;
}

bool HeldOut::contains(const Thing& thing) const { return held_out_[combination(thing)]; }

std::vector<Thing> HeldOut::things() const {
  std::vector<Thing> result;
  for (int size = 0; size < static_cast<int>(kSizes.size()); ++size)
    for (int color = 0; color < static_cast<int>(kColors.size()); ++color)
      for (int shape = 0; shape < static_cast<int>(kShapes.size()); ++shape)
        for (int place = 0; place < static_cast<int>(kPlaces.size()); ++place)
          if (const Thing thing{size, color, shape, place}; contains(thing))
            result.push_back(thing);
  return result;
}

Scene random_scene(int num_things, const HeldOut& held_out, RandomStream& draws) {
  const auto pick = [&draws](size_t count) { return static_cast<int>(draws.below(count)); };
  Scene scene;
  while (static_cast<int>(scene.size()) < num_things) {
    const Thing thing{pick(kSizes.size()), pick(kColors.size()), pick(kShapes.size()),
                      pick(kPlaces.size())};
    const auto same_place = [&](const Thing& other) { return other.place == thing.place; };
    if (held_out.contains(thing) || std::any_of(scene.begin(), scene.end(), same_place)) continue;
    scene.push_back(thing);
  }
  std::sort(scene.begin(), scene.end(),
            [](const Thing& a, const Thing& b) { return a.place < b.place; });
  return scene;
}

}  // namespace facet::tiny
