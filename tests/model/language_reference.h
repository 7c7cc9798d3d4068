// The decoder, MMCA and the loss of the composed model once more, as plainly as possible in fp64,
// with masks instead of work lists. Parameters are looked up by name.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "base/micro_batch.h"
#include "model/rope.h"
#include "ops/attention_plan.h"
#include "tests/model/vision_reference.h"

namespace facet::language_reference {

using vision_reference::Mat;
using vision_reference::Params;

// Where the compatible rule takes a plain mean, its gradient flows as if the weights were a softmax
// (docs/computes.md, "Attention"). Finite differences see the same when the weights are
// softmax(score - score at the point of departure): record() at that point, replay() at the shifted
// ones.
struct DepartureScores {
  std::vector<double> scores;
  size_t next = 0;
  bool recording = true;
  void record() {
    scores.clear();
    recording = true;
  }
  void replay() {
    next = 0;
    recording = false;
  }
  double relative(double score) {
    if (recording) scores.push_back(score);
    return score - (recording ? score : scores[next++]);
  }
};

inline Mat plain_linear(const Params& params, const std::string& name, const Mat& x,
                        double lora_alpha) {
  const Mat& w = params.at(name + ".weight");
  const auto bias = params.find(name + ".bias");
  Mat y = vision_reference::linear_rows(x, w, 0, w.rows,
                                        bias == params.end() ? nullptr : &bias->second);
  vision_reference::add_lora(params, name, x, lora_alpha, y);
  return y;
}

inline Mat rms_norm(const Params& params, const std::string& name, const Mat& x, double eps) {
  const Mat& w = params.at(name + ".weight");
  Mat y(x.rows, x.cols);
  for (int64_t n = 0; n < x.rows; ++n) {
    double squares = 0;
    for (int64_t c = 0; c < x.cols; ++c) squares += x.at(n, c) * x.at(n, c);
    const double rstd = 1 / std::sqrt(squares / static_cast<double>(x.cols) + eps);
    for (int64_t c = 0; c < x.cols; ++c) y.at(n, c) = x.at(n, c) * rstd * w.at(0, c);
  }
  return y;
}

inline Mat rotate(Mat x, int64_t width, const std::vector<double>& frequencies) {
  const int64_t half = width / 2;
  for (int64_t n = 0; n < x.rows; ++n)
    for (int64_t head = 0; head < x.cols / width; ++head)
      for (int64_t c = 0; c < half; ++c) {
        const double angle = static_cast<double>(n) * frequencies[static_cast<size_t>(c)];
        double &a = x.at(n, head * width + c), &b = x.at(n, head * width + c + half);
        const double rotated = a * std::cos(angle) - b * std::sin(angle);
        b = b * std::cos(angle) + a * std::sin(angle);
        a = rotated;
      }
  return x;
}

// One head of one query: weights over a set of keys, added onto `out`.
struct Head {
  const Mat &q, &k, &v;
  int64_t width, head, kv_head;

  double score(int64_t i, int64_t j) const {
    double sum = 0;
    for (int64_t c = 0; c < width; ++c)
      sum += q.at(i, head * width + c) * k.at(j, kv_head * width + c);
    return sum / std::sqrt(static_cast<double>(width));
  }
  void add_value(Mat& out, int64_t i, int64_t j, double weight) const {
    for (int64_t c = 0; c < width; ++c)
      out.at(i, head * width + c) += weight * v.at(j, kv_head * width + c);
  }
  void add_softmax(Mat& out, int64_t i, const std::vector<int64_t>& keys,
                   DepartureScores* departure) const {
    std::vector<double> weights;
    double sum = 0;
    for (const int64_t j : keys) {
      const double s = score(i, j);
      weights.push_back(std::exp(departure != nullptr ? departure->relative(s) : s));
      sum += weights.back();
    }
    for (size_t n = 0; n < keys.size(); ++n) add_value(out, i, keys[n], weights[n] / sum);
  }
};

inline Mat attention(const VlmConfig& config, int64_t layer, const Mat& q, const Mat& k,
                     const Mat& v, const std::vector<TokenKind>& kinds,
                     DepartureScores& departure) {
  const LlamaConfig& lm = config.lm;
  Mat out(q.rows, q.cols);
  const int64_t group = lm.num_attention_heads / lm.num_key_value_heads;
  const auto kind = [&](int64_t j) { return kinds[static_cast<size_t>(j)]; };
  for (int64_t h = 0; h < lm.num_attention_heads; ++h) {
    const Head head{q, k, v, lm.head_dim, h, h / group};
    for (int64_t i = 0; i < q.rows; ++i) {
      std::vector<int64_t> all;
      const int64_t window = lm.has_window(layer) ? lm.sliding_window : q.rows;
      for (int64_t j = 0; j <= i; ++j)
        if (i - j < window) all.push_back(j);
      if (!config.mmca) {
        head.add_softmax(out, i, all, nullptr);
        continue;
      }
      const bool image_query = kind(i) == TokenKind::kImage;
      if (image_query) head.add_value(out, i, i, 1);
      for (const TokenKind side : {TokenKind::kText, TokenKind::kImage}) {
        if (image_query && (side == TokenKind::kImage || !config.compat_visualchat)) continue;
        std::vector<int64_t> keys;
        for (const int64_t j : all)
          if (kind(j) == side) keys.push_back(j);
        if (!keys.empty()) {
          head.add_softmax(out, i, keys, nullptr);
        } else if (config.compat_visualchat) {
          keys = all;
          for (int64_t j = i + 1; j < q.rows; ++j)
            if (kind(j) == side) keys.push_back(j);
          head.add_softmax(out, i, keys, &departure);
        }
      }
    }
  }
  return out;
}

// Logits (L,V) of one sample from its spliced rows x (L,D).
inline Mat decoder(const Params& params, const VlmConfig& config, Mat x,
                   const std::vector<TokenKind>& kinds, DepartureScores& departure) {
  const LlamaConfig& lm = config.lm;
  const double alpha = config.lang_lora.alpha;
  const std::vector<double> frequencies = RopeTable(lm).frequencies(x.rows);
  for (int64_t n = 0; n < lm.num_hidden_layers; ++n) {
    const std::string path = "lang_decoder.model.layers." + std::to_string(n) + ".";
    const auto project = [&](const char* part, const Mat& in) {
      return plain_linear(params, path + part, in, alpha);
    };
    const Mat normed = rms_norm(params, path + "input_layernorm", x, lm.rms_norm_eps);
    const Mat attended =
        attention(config, n, rotate(project("self_attn.q_proj", normed), lm.head_dim, frequencies),
                  rotate(project("self_attn.k_proj", normed), lm.head_dim, frequencies),
                  project("self_attn.v_proj", normed), kinds, departure);
    x = vision_reference::add(x, project("self_attn.o_proj", attended));
    const Mat normed2 = rms_norm(params, path + "post_attention_layernorm", x, lm.rms_norm_eps);
    Mat act = project("mlp.gate_proj", normed2);
    const Mat up = project("mlp.up_proj", normed2);
    for (size_t i = 0; i < act.a.size(); ++i) act.a[i] *= up.a[i] / (1 + std::exp(-act.a[i]));
    x = vision_reference::add(x, project("mlp.down_proj", act));
  }
  const Mat normed = rms_norm(params, "lang_decoder.model.norm", x, lm.rms_norm_eps);
  const std::string head =
      lm.tie_word_embeddings ? "lang_decoder.model.embed_tokens" : "lang_decoder.lm_head";
  return plain_linear(params, head, normed, 0);
}

struct Result {
  Mat logits;       // (N,V) of all samples
  double loss = 0;  // sum over the labelled positions
  std::vector<double> loss_of_sample;
};

inline double token_loss(const Mat& logits, int64_t row, int64_t label) {
  double sum = 0;
  for (int64_t v = 0; v < logits.cols; ++v) sum += std::exp(logits.at(row, v));
  return std::log(sum) - logits.at(row, label);
}

inline void run_sample(Result& result, const Params& params, const VlmConfig& config,
                       const MicroBatch& batch, size_t sample, int64_t first_image,
                       const Mat& image_tokens, DepartureScores& departure) {
  const int64_t per_image = config.image_tokens(), images = batch.images_per_sample[sample];
  const Mat& embed = params.at("lang_embed.weight");
  Mat x(0, config.lm.hidden_size);
  std::vector<TokenKind> kinds;
  std::vector<int64_t> labels;
  const auto add_row = [&](const Mat& from, int64_t row, TokenKind kind, int64_t label) {
    for (int64_t c = 0; c < from.cols; ++c) x.a.push_back(from.at(row, c));
    ++x.rows;
    kinds.push_back(kind);
    labels.push_back(label);
  };
  int64_t place = 0;
  for (auto t = static_cast<size_t>(batch.sample_begin[sample]);
       t < static_cast<size_t>(batch.sample_begin[sample + 1]); ++t) {
    if (batch.token_ids[t] != batch.image_token_id) {
      add_row(embed, batch.token_ids[t], TokenKind::kText, batch.labels[t]);
      continue;
    }
    const int64_t image = first_image + (config.compat_visualchat ? images - 1 - place : place);
    for (int64_t s = 0; s < per_image; ++s)
      add_row(image_tokens, image * per_image + s, TokenKind::kImage, kIgnoredLabel);
    ++place;
  }
  const Mat logits = decoder(params, config, x, kinds, departure);
  result.loss_of_sample.push_back(0);
  for (int64_t row = 1; row < x.rows; ++row)
    if (labels[static_cast<size_t>(row)] != kIgnoredLabel)
      result.loss_of_sample.back() += token_loss(logits, row - 1, labels[static_cast<size_t>(row)]);
  result.loss += result.loss_of_sample.back();
  result.logits.a.insert(result.logits.a.end(), logits.a.begin(), logits.a.end());
  result.logits.rows += logits.rows;
}

inline Result run(const Params& params, const VlmConfig& config, const MicroBatch& batch,
                  DepartureScores& departure) {
  Mat pixels(batch.num_images(), 3 * config.image_size * config.image_size);
  for (size_t i = 0; i < pixels.a.size(); ++i) pixels.a[i] = static_cast<double>(batch.pixels[i]);
  const Mat tokens =
      vision_reference::project(params, config, vision_reference::encode(params, config, pixels));
  Result result;
  result.logits = Mat(0, config.lm.vocab_size);
  int64_t first_image = 0;
  for (size_t b = 0; b + 1 < batch.sample_begin.size(); ++b) {
    run_sample(result, params, config, batch, b, first_image, tokens, departure);
    first_image += batch.images_per_sample[b];
  }
  return result;
}

}  // namespace facet::language_reference
