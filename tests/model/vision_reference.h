// The vision encoder and the projections once more, as plainly as possible in fp64: what the tests
// of both compare with. Parameters are looked up by name.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "model/config.h"

namespace facet::vision_reference {

struct Mat {  // row-major
  int64_t rows = 0, cols = 0;
  std::vector<double> a;
  Mat() = default;
  Mat(int64_t r, int64_t c) : rows(r), cols(c), a(static_cast<size_t>(r * c)) {}
  double& at(int64_t r, int64_t c) { return a[static_cast<size_t>(r * cols + c)]; }
  double at(int64_t r, int64_t c) const { return a[static_cast<size_t>(r * cols + c)]; }
};

using Params = std::map<std::string, Mat>;  // vectors have one row

inline Mat linear_rows(const Mat& x, const Mat& w, int64_t begin, int64_t outputs,
                       const Mat* bias) {
  Mat y(x.rows, outputs);
  for (int64_t n = 0; n < x.rows; ++n)
    for (int64_t o = 0; o < outputs; ++o) {
      double sum = bias == nullptr ? 0 : bias->at(0, begin + o);
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < x.cols; ++i) sum += x.at(n, i) * w.at(begin + o, i);
      y.at(n, o) = sum;
    }
  return y;
}

// y += the low-rank part of x, where the table has it for this module.
inline void add_lora(const Params& params, const std::string& name, const Mat& x, double lora_alpha,
                     Mat& y) {
  const auto right = params.find(name + ".lora_right_weight");
  if (right == params.end()) return;
  const Mat &r = right->second, &l = params.at(name + ".lora_left_weight");
  for (int64_t n = 0; n < x.rows; ++n)
    for (int64_t k = 0; k < r.cols; ++k) {
      double u = 0;
      for (int64_t i = 0; i < x.cols; ++i) u += x.at(n, i) * r.at(i, k);
      for (int64_t o = 0; o < y.cols; ++o)
        y.at(n, o) += lora_alpha / static_cast<double>(r.cols) * u * l.at(k, o);
    }
}

inline Mat linear(const Params& params, const std::string& name, const Mat& x, double lora_alpha) {
  const Mat& w = params.at(name + ".weight");
  Mat y = linear_rows(x, w, 0, w.rows, &params.at(name + ".bias"));
  add_lora(params, name, x, lora_alpha, y);
  return y;
}

inline Mat layer_norm(const Params& params, const std::string& name, const Mat& x, double eps) {
  const Mat &w = params.at(name + ".weight"), &b = params.at(name + ".bias");
  Mat y(x.rows, x.cols);
  for (int64_t n = 0; n < x.rows; ++n) {
    double mean = 0, var = 0;
    for (int64_t c = 0; c < x.cols; ++c) mean += x.at(n, c) / static_cast<double>(x.cols);
    for (int64_t c = 0; c < x.cols; ++c)
      var += (x.at(n, c) - mean) * (x.at(n, c) - mean) / static_cast<double>(x.cols);
    for (int64_t c = 0; c < x.cols; ++c)
      y.at(n, c) = (x.at(n, c) - mean) / std::sqrt(var + eps) * w.at(0, c) + b.at(0, c);
  }
  return y;
}

inline Mat add(Mat a, const Mat& b) {  // b's rows are repeated
  for (int64_t n = 0; n < a.rows; ++n)
    for (int64_t c = 0; c < a.cols; ++c) a.at(n, c) += b.at(n % b.rows, c);
  return a;
}

// Every query of an image sees every key of the image.
inline Mat attention(const Mat& q, const Mat& k, const Mat& v, int64_t images, int64_t heads) {
  const int64_t nq = q.rows / images, nk = k.rows / images, e = q.cols / heads;
  Mat out(q.rows, q.cols);
  std::vector<double> p(static_cast<size_t>(nk));
  for (int64_t row = 0; row < q.rows; ++row)
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t first = row / nq * nk;
      double sum = 0;
      for (int64_t j = 0; j < nk; ++j) {
        double score = 0;
        for (int64_t c = h * e; c < (h + 1) * e; ++c) score += q.at(row, c) * k.at(first + j, c);
        p[static_cast<size_t>(j)] = std::exp(score / std::sqrt(static_cast<double>(e)));
        sum += p[static_cast<size_t>(j)];
      }
      for (int64_t j = 0; j < nk; ++j)
        for (int64_t c = h * e; c < (h + 1) * e; ++c)
          out.at(row, c) += p[static_cast<size_t>(j)] / sum * v.at(first + j, c);
    }
  return out;
}

inline double activate(double x, Activation activation) {
  if (activation == Activation::kQuickGelu) return x / (1 + std::exp(-1.702 * x));
  if (activation == Activation::kGelu) return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
  return x / 2 * (1 + std::tanh(std::sqrt(M_2_PI) * (x + 0.044715 * x * x * x)));
}

inline Mat vision_block(const Params& params, const std::string& name, const VisionConfig& config,
                        double lora_alpha, const Mat& x, int64_t images) {
  const double eps = config.layer_norm_eps;
  const auto project = [&](const char* part, const Mat& in) {
    return linear(params, name + part, in, lora_alpha);
  };
  const Mat normed = layer_norm(params, name + "layer_norm1", x, eps);
  const Mat attended =
      attention(project("self_attn.q_proj", normed), project("self_attn.k_proj", normed),
                project("self_attn.v_proj", normed), images, config.num_attention_heads);
  const Mat middle = add(x, project("self_attn.out_proj", attended));
  Mat hidden = project("mlp.fc1", layer_norm(params, name + "layer_norm2", middle, eps));
  for (double& h : hidden.a) h = activate(h, config.hidden_act);
  return add(middle, project("mlp.fc2", hidden));
}

// Cubic convolution with a = -0.75 at half-pixel centres; the border is clamped.
inline Mat resize_grid(const Mat& in, int64_t to) {
  const int64_t from = std::llround(std::sqrt(static_cast<double>(in.rows)));
  const auto kernel = [](double d) {
    d = std::abs(d);
    constexpr double a = -0.75;
    if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
    return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0.0;
  };
  const auto clamp = [&](int64_t i) { return std::min(std::max<int64_t>(i, 0), from - 1); };
  Mat out(to * to, in.cols);
  const double step = static_cast<double>(from) / static_cast<double>(to);
  for (int64_t y = 0; y < to; ++y)
    for (int64_t x = 0; x < to; ++x) {
      const double sy = (static_cast<double>(y) + 0.5) * step - 0.5;
      const double sx = (static_cast<double>(x) + 0.5) * step - 0.5;
      const int64_t y0 = static_cast<int64_t>(std::floor(sy));
      const int64_t x0 = static_cast<int64_t>(std::floor(sx));
      for (int64_t j = y0 - 1; j <= y0 + 2; ++j)
        for (int64_t i = x0 - 1; i <= x0 + 2; ++i)
          for (int64_t c = 0; c < in.cols; ++c)
            out.at(y * to + x, c) += kernel(sy - static_cast<double>(j)) *
                                     kernel(sx - static_cast<double>(i)) *
                                     in.at(clamp(j) * from + clamp(i), c);
    }
  return out;
}

inline Mat rows_of(const Mat& x, int64_t begin, int64_t count) {
  Mat y(count, x.cols);
  for (int64_t n = 0; n < count; ++n)
    for (int64_t c = 0; c < x.cols; ++c) y.at(n, c) = x.at(begin + n, c);
  return y;
}

// pixels (I, 3*R*R) -> features (I*vision_tokens, C).
inline Mat encode(const Params& params, const VlmConfig& config, const Mat& pixels) {
  const VisionConfig& vision = config.vision;
  const std::string root = "vis_encoder.vision_model.";
  const int64_t p = vision.patch_size, r = config.image_size, grid = r / p,
                width = vision.hidden_size;
  const int64_t images = pixels.rows, first = vision.traits().class_token ? 1 : 0;
  const int64_t tokens = first + grid * grid;
  const Mat& filter = params.at(root + "embeddings.patch_embedding.weight");
  const Mat& stored = params.at(root + "embeddings.position_embedding.weight");
  const Mat resized = resize_grid(rows_of(stored, first, stored.rows - first), grid);
  const bool biased = vision.traits().patch_bias;
  Mat x(images * tokens, width);
  for (int64_t n = 0; n < images; ++n)
    for (int64_t c = 0; c < width; ++c) {
      if (first > 0)
        x.at(n * tokens, c) =
            params.at(root + "embeddings.class_embedding").at(0, c) + stored.at(0, c);
      for (int64_t patch = 0; patch < grid * grid; ++patch) {
        double sum = resized.at(patch, c);
        if (biased) sum += params.at(root + "embeddings.patch_embedding.bias").at(0, c);
        for (int64_t i = 0; i < 3 * p * p; ++i) {
          const int64_t channel = i / (p * p), dy = i / p % p, dx = i % p;
          const int64_t y = patch / grid * p + dy, z = patch % grid * p + dx;
          sum += filter.at(c, i) * pixels.at(n, (channel * r + y) * r + z);
        }
        x.at(n * tokens + first + patch, c) = sum;
      }
    }
  if (vision.traits().pre_norm)
    x = layer_norm(params, root + "pre_layrnorm", x, vision.layer_norm_eps);
  const int64_t used = vision.num_hidden_layers + 1 + config.vision_feature_layer;
  for (int64_t n = 0; n < used; ++n)
    x = vision_block(params, root + "encoder.layers." + std::to_string(n) + ".", vision,
                     config.vis_lora.alpha, x, images);
  if (config.norms_feature())
    x = layer_norm(params, root + "post_layernorm", x, vision.layer_norm_eps);
  if (config.vision_tokens() == tokens) return x;
  Mat features(images * (tokens - 1), width);
  for (int64_t n = 0; n < images; ++n)
    for (int64_t t = 1; t < tokens; ++t)
      for (int64_t c = 0; c < width; ++c)
        features.at(n * (tokens - 1) + t - 1, c) = x.at(n * tokens + t, c);
  return features;
}

inline Mat perceiver(const Params& params, const VlmConfig& config, const Mat& features) {
  constexpr double kEps = 1e-12;
  const int64_t width = config.lm.hidden_size, images = features.rows / config.vision_tokens();
  const std::string root = "projection.";
  const Mat& position = params.at(root + "pos_embed");
  const Mat& w = params.at(root + "attn.in_proj_weight");
  const Mat& bias = params.at(root + "attn.in_proj_bias");
  const Mat query =
      add(layer_norm(params, root + "ln_q", params.at(root + "query"), kEps), position);
  const Mat value =
      layer_norm(params, root + "ln_kv", linear(params, root + "kv_proj", features, 1), kEps);
  const int64_t grid = std::llround(std::sqrt(static_cast<double>(config.vision_tokens())));
  const Mat key = add(value, resize_grid(position, grid));
  const Mat queries = add(Mat(images * query.rows, width), query);
  const Mat attended =
      attention(linear_rows(queries, w, 0, width, &bias), linear_rows(key, w, width, width, &bias),
                linear_rows(value, w, 2 * width, width, &bias), images, width / 128);
  const Mat out = linear(params, root + "attn.out_proj", attended, 1);
  return linear(params, root + "projection.1", layer_norm(params, root + "projection.0", out, kEps),
                1);
}

inline Mat mlp2x_gelu(const Params& params, const Mat& features) {
  Mat hidden = linear(params, "projection.0", features, 1);
  for (double& h : hidden.a) h = activate(h, Activation::kGelu);
  return linear(params, "projection.2", hidden, 1);
}

inline Mat project(const Params& params, const VlmConfig& config, const Mat& features) {
  if (config.projection == ProjectionKind::kMlp) return mlp2x_gelu(params, features);
  if (config.projection == ProjectionKind::kPerceiver) return perceiver(params, config, features);
  const bool vit = config.projection == ProjectionKind::kVit;
  const std::string head = vit ? "projection.projection." : "projection.";
  const Mat x = vit ? vision_block(params, "projection.vis_layer.", config.vision, 1, features,
                                   features.rows / config.vision_tokens())
                    : features;
  return layer_norm(params, head + "1", linear(params, head + "0", x, 1), 1e-12);
}

}  // namespace facet::vision_reference
