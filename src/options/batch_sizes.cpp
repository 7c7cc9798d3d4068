#include "options/batch_sizes.h"

#include <fmt/format.h>

namespace facet {

namespace {

// Limit of each number and of their product, so that one times the ranks fits 64 bits.
constexpr int64_t kLargest = int64_t{1} << 40;

std::string out_of_range(const char* name, const std::optional<int64_t>& value) {
  if (!value || (*value >= 1 && *value <= kLargest)) return "";
  return fmt::format("{} {} is not in 1 to {}", name, *value, kLargest);
}

// The multiples of `unit` on both sides of `wanted`.
std::string nearest_multiples(int64_t wanted, int64_t unit) {
  const int64_t below = wanted / unit * unit;
  return below == 0 ? fmt::format("{}", unit) : fmt::format("{} or {}", below, below + unit);
}

// The third number, train / (value * ranks), if that is a whole number.
std::string divide(int64_t train, const char* name, int64_t value, int64_t ranks,
                   std::optional<int64_t>& quotient) {
  const int64_t unit = value * ranks;
  if (train % unit != 0)
    return fmt::format(
        "train_batch_size {} is no multiple of {} {} x {} ranks = {}: {} left over; nearest "
        "train_batch_size that fits: {}",
        train, name, value, ranks, unit, train % unit, nearest_multiples(train, unit));
  quotient = train / unit;
  return "";
}

// micro * steps * ranks, or nothing when that is absurdly large.
std::optional<int64_t> product_of(int64_t micro, int64_t steps, int64_t ranks) {
  if (micro > kLargest / steps || micro * steps > kLargest / ranks) return std::nullopt;
  return micro * steps * ranks;
}

std::string product_text(int64_t micro, int64_t steps, int64_t ranks) {
  return fmt::format(
      "train_micro_batch_size_per_gpu {} x gradient_accumulation_steps {} x {} ranks", micro, steps,
      ranks);
}

std::string check_product(int64_t train, int64_t micro, int64_t steps, int64_t ranks,
                          int64_t product) {
  if (product == train) return "";
  std::string fitting = fmt::format("train_batch_size {}", product);
  if (train % (micro * ranks) == 0)
    fitting += fmt::format(", or gradient_accumulation_steps {}", train / (micro * ranks));
  if (train % (steps * ranks) == 0)
    fitting += fmt::format(", or train_micro_batch_size_per_gpu {}", train / (steps * ranks));
  return fmt::format("train_batch_size {} is not {} = {}; nearest that fits: {}", train,
                     product_text(micro, steps, ranks), product, fitting);
}

}  // namespace

std::string resolve_batch_sizes(BatchSizes& sizes, int64_t ranks) {
  auto& [train, micro, steps] = sizes;
  for (const std::string& wrong : {out_of_range("train_batch_size", train),
                                   out_of_range("train_micro_batch_size_per_gpu", micro),
                                   out_of_range("gradient_accumulation_steps", steps)})
    if (!wrong.empty()) return wrong;
  if (!train && !micro && !steps) return "";
  if (!train && !micro)
    return "gradient_accumulation_steps alone doesn't say how large a batch is; add "
           "train_batch_size or train_micro_batch_size_per_gpu";
  if (!steps && !(train && micro)) steps = 1;
  if (!steps) return divide(*train, "train_micro_batch_size_per_gpu", *micro, ranks, steps);
  if (!micro) return divide(*train, "gradient_accumulation_steps", *steps, ranks, micro);

  const std::optional<int64_t> product = product_of(*micro, *steps, ranks);
  if (!product)
    return fmt::format("{} is more than {}", product_text(*micro, *steps, ranks), kLargest);
  if (!train) train = product;
  return check_product(*train, *micro, *steps, ranks, *product);
}

}  // namespace facet
