#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "base/half.h"
#include "checkpoint/adapter.h"
#include "checkpoint/config_export.h"
#include "checkpoint/hugging_face.h"
#include "checkpoint/model_choices.h"
#include "checkpoint/tokenizer_export.h"
#include "checkpoint/weight_origins.h"
#include "io/file.h"
#include "io/llava_directory.h"
#include "io/safetensors.h"

namespace facet {

namespace {

constexpr std::string_view kDecoderPrefix = "lang_decoder.";
constexpr std::string_view kVisionPrefix = "vis_encoder.";
constexpr std::string_view kTokenTable = "lang_decoder.model.embed_tokens.weight";
constexpr std::string_view kHead = "lang_decoder.lm_head.weight";
constexpr std::string_view kLangEmbed = "lang_embed.weight";

// The type in which each parameter is exported.
using TypeOf = std::function<DType(const Param&)>;

// The parameters by name, and access to their values. Of a table that is only measured nothing may
// be read.
struct ParamMap {
  std::map<std::string_view, const Param*> by_name;
  TypeOf type_of;
  ReadParam read;
  std::function<bool(const Param&)> in_models;  // as it is in the models' files

  const Param* find(std::string_view name) const {
    const auto found = by_name.find(name);
    return found == by_name.end() ? nullptr : found->second;
  }
  std::vector<float> whole(const Param& param) const {
    std::vector<float> values(static_cast<size_t>(param.numel()));
    read(param, 0, param.numel(), values.data());
    return values;
  }
};

ParamMap map_of(const ParamTable& table, TypeOf type_of, ReadParam read,
                std::function<bool(const Param&)> in_models) {
  ParamMap params{{}, std::move(type_of), std::move(read), std::move(in_models)};
  for (const Param& param : table.params()) params.by_name.emplace(param.name, &param);
  return params;
}

TensorToWrite plain_copy(const ParamMap& params, std::string name, const Param& param) {
  return {std::move(name), param.shape,
          [&params, &param](int64_t begin, int64_t count, float* out) {
            params.read(param, begin, count, out);
          },
          params.type_of(param)};
}

// The matrices of a LoRA layer: R (inputs,rank), L (rank,outputs), and its scale.
struct LoraProduct {
  int64_t inputs = 0, outputs = 0, rank = 0;
  float scale = 0;
  std::vector<float> right, left;
  std::vector<float> factors;  // of the rows of the sum, with DoRA
};

// out, elements [begin, begin+count) of a weight (outputs,inputs), += scale (R L)'.
void add_product(const LoraProduct& lora, int64_t begin, int64_t count, float* out) {
  const int64_t inputs = lora.inputs, outputs = lora.outputs, rank = lora.rank;
  const float* r = lora.right.data();
  const float* l = lora.left.data();
  const int64_t first_row = begin / inputs;
  const int64_t last_row = (begin + count - 1) / inputs;
  // scale * L' of these rows, (rows, rank).
  std::vector<float> scaled(static_cast<size_t>((last_row - first_row + 1) * rank));
  for (int64_t row = first_row; row <= last_row; ++row)
    for (int64_t k = 0; k < rank; ++k)
      scaled[static_cast<size_t>((row - first_row) * rank + k)] = lora.scale * l[k * outputs + row];
#pragma omp parallel for schedule(static)
  for (int64_t row = first_row; row <= last_row; ++row) {
    const float* a = scaled.data() + (row - first_row) * rank;
    const int64_t from = std::max(begin, row * inputs);
    const int64_t to = std::min(begin + count, (row + 1) * inputs);
    for (int64_t i = from; i < to; ++i) {
      const float* b = r + (i - row * inputs) * rank;
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t k = 0; k < rank; ++k) sum += a[k] * b[k];
      out[i - begin] += sum;
    }
  }
}

void scale_rows(const LoraProduct& lora, int64_t begin, int64_t count, float* out) {
  if (lora.factors.empty()) return;
  for (int64_t i = 0; i < count; ++i)
    out[i] *= lora.factors[static_cast<size_t>((begin + i) / lora.inputs)];
}

// The LoRA of one linear layer, in its unit as the layer's weight is; magnitude: nullptr without
// DoRA.
struct LoraParams {
  const Param *right, *left, *magnitude;
};

// With DoRA, the factors of the rows of weight + scale (R L)', which come from whole rows.
std::vector<float> dora_factors(const ParamMap& params, const Param& weight,
                                const LoraProduct& product, const Param& magnitude) {
  constexpr int64_t kPieceElements = int64_t{1} << 20;
  const int64_t inputs = product.inputs, at_a_time = std::max<int64_t>(1, kPieceElements / inputs);
  std::vector<float> factors = params.whole(magnitude), rows, norms;
  for (int64_t first = 0; first < product.outputs; first += at_a_time) {
    const int64_t count = std::min(at_a_time, product.outputs - first);
    rows.resize(static_cast<size_t>(count * inputs));
    norms.resize(static_cast<size_t>(count));
    params.read(weight, first * inputs, count * inputs, rows.data());
    add_product(product, first * inputs, count * inputs, rows.data());
    ParamTable::row_norms(norms.data(), rows.data(), count, inputs);
    for (int64_t row = 0; row < count; ++row) {
      float& factor = factors[static_cast<size_t>(first + row)];
      const float norm = norms[static_cast<size_t>(row)];
      factor = norm > 0 ? factor / norm : 0;
    }
  }
  return factors;
}

// The matrices are read with the first elements, and dropped after the last ones.
TensorToWrite fused_copy(const ParamMap& params, std::string name, const Param& weight,
                         const LoraParams& matrices, float scale) {
  const auto product = std::make_shared<LoraProduct>(
      LoraProduct{weight.shape[1], weight.shape[0], matrices.right->shape[1], scale, {}, {}, {}});
  return {std::move(name), weight.shape,
          [&params, &weight, matrices, product](int64_t begin, int64_t count, float* out) {
            if (product->right.empty()) {
              product->right = params.whole(*matrices.right);
              product->left = params.whole(*matrices.left);
              if (matrices.magnitude != nullptr)
                product->factors = dora_factors(params, weight, *product, *matrices.magnitude);
            }
            params.read(weight, begin, count, out);
            add_product(*product, begin, count, out);
            scale_rows(*product, begin, count, out);
            if (begin + count == weight.numel())
              product->right = product->left = product->factors = {};
          },
          params.type_of(weight)};
}

// A parameter that is none of LoRA's, merged with the LoRA that its layer has.
TensorToWrite merged_copy(const ParamMap& params, std::string name, const Param& param,
                          const LoraConfig& lora) {
  if (!param.name.ends_with(".weight")) return plain_copy(params, std::move(name), param);
  const std::string module = param.name.substr(0, param.name.rfind('.'));
  const LoraParams matrices = {params.find(module + ".lora_right_weight"),
                               params.find(module + ".lora_left_weight"),
                               params.find(module + ".lora_magnitude_vector")};
  if (matrices.right == nullptr || matrices.left == nullptr)
    return plain_copy(params, std::move(name), param);
  const std::string path = module.substr(module.find('.') + 1);
  return fused_copy(params, std::move(name), param, matrices, lora.scale_of(path));
}

// All parameters with a prefix, named without it, LoRA merged.
std::vector<TensorToWrite> fused_part(const ParamMap& params, std::string_view prefix,
                                      const LoraConfig& lora) {
  std::vector<TensorToWrite> tensors;
  for (const auto& [full_name, param] : params.by_name) {
    if (!full_name.starts_with(prefix) || param->role == ParamRole::kLora) continue;
    tensors.push_back(
        merged_copy(params, std::string(full_name.substr(prefix.size())), *param, lora));
  }
  return tensors;
}

std::vector<TensorToWrite> decoder_tensors(const ParamMap& params, const VlmConfig& config) {
  std::vector<TensorToWrite> tensors = fused_part(params, kDecoderPrefix, config.lang_lora);
  if (config.lm.tie_word_embeddings) return tensors;
  const std::string name(kTokenTable.substr(kDecoderPrefix.size()));
  std::erase_if(tensors, [&](const TensorToWrite& tensor) { return tensor.name == name; });
  tensors.push_back(plain_copy(params, name, *params.find(kLangEmbed)));
  return tensors;
}

std::vector<TensorToWrite> projection_tensors(const ParamMap& params) {
  std::vector<TensorToWrite> tensors;
  for (const auto& [name, param] : params.by_name)
    if (name.starts_with("projection.") || name == kLangEmbed)
      tensors.push_back(plain_copy(params, std::string(name), *param));
  return tensors;
}

// lang_embed is the decoder's token table there.
std::vector<TensorToWrite> llava_tensors(const ParamMap& params, const VlmConfig& config) {
  std::vector<TensorToWrite> projection = projection_tensors(params);
  std::erase_if(projection, [](const TensorToWrite& tensor) { return tensor.name == kLangEmbed; });
  std::vector<TensorToWrite> tensors;
  const auto add = [&](LlavaPart part, std::vector<TensorToWrite> alone) {
    for (TensorToWrite& tensor : alone) {
      tensor.name = name_in_llava(part, tensor.name);
      tensors.push_back(std::move(tensor));
    }
  };
  add(LlavaPart::kDecoder, decoder_tensors(params, config));
  add(LlavaPart::kVision, fused_part(params, kVisionPrefix, config.vis_lora));
  add(LlavaPart::kProjection, std::move(projection));
  return tensors;
}

// ---- adapters

// (columns, rows) of a parameter (rows, columns).
TensorToWrite transposed_copy(const ParamMap& params, std::string name, const Param& param) {
  return {std::move(name),
          {param.shape[1], param.shape[0]},
          [&params, &param](int64_t begin, int64_t count, float* out) {
            const int64_t rows = param.shape[0], columns = param.shape[1];
            const std::vector<float> values = params.whole(param);
            for (int64_t i = begin; i < begin + count; ++i)
              out[i - begin] = values[static_cast<size_t>(i % rows * columns + i / rows)];
          },
          params.type_of(param)};
}

std::vector<TensorToWrite> lora_tensors(const ParamMap& params, std::string_view prefix) {
  std::vector<TensorToWrite> tensors;
  for (const auto& [name, param] : params.by_name)
    if (name.starts_with(prefix) && param->role == ParamRole::kLora)
      tensors.push_back(param->shape.size() == 2
                            ? transposed_copy(params, adapter_key(*param), *param)
                            : plain_copy(params, adapter_key(*param), *param));
  return tensors;
}

// The decoder's part of an adapter.
std::vector<TensorToWrite> lang_adapter_tensors(const ParamMap& params) {
  std::vector<TensorToWrite> tensors = lora_tensors(params, kDecoderPrefix);
  for (const auto& [name, param] : params.by_name)
    if (!param->saved_as.empty())
      tensors.push_back(plain_copy(params, adapter_key(*param), *param));
  return tensors;
}

// The last rows of a table of tokens.
TensorToWrite rows_copy(const ParamMap& params, const Param& param, int64_t rows) {
  const int64_t first = (param.shape[0] - rows) * param.shape[1];
  return {param.name + std::string(kAddedRows),
          {rows, param.shape[1]},
          [&params, &param, first](int64_t begin, int64_t count, float* out) {
            params.read(param, first + begin, count, out);
          },
          params.type_of(param)};
}

// What else is not as in the models: trained in this run, from the adapter that it began with, or
// from a file with all parts; and the head's rows of added tokens.
std::vector<TensorToWrite> other_tensors(const ParamMap& params, const VlmConfig& config,
                                         int64_t added_rows) {
  std::vector<TensorToWrite> tensors;
  for (const auto& [name, param] : params.by_name)
    if (!params.in_models(*param) && param->role != ParamRole::kLora && param->saved_as.empty() &&
        !name.starts_with("projection.") && name != kLangEmbed)
      tensors.push_back(plain_copy(params, std::string(name), *param));
  const Param& head = *params.find(config.lm.tie_word_embeddings ? kTokenTable : kHead);
  if (added_rows > 0 && params.in_models(head))
    tensors.push_back(rows_copy(params, head, added_rows));
  return tensors;
}

// ---- whole directories

// What an export writes, in either form.
struct Export {
  const ParamTable& table;
  const VlmConfig& config;
  const ExportSources& sources;
  const ExportForm& form;
  const ParamMap& params;
  int64_t added_rows = 0;  // of the head, in no file
};

void write_projection(const Export& from, const std::string& directory) {
  std::map<std::string, std::string> metadata = model_choices(from.config);
  metadata[kChatTemplate] = from.sources.chat_template;
  write_safetensors(directory + "/projection.safetensors", projection_tensors(from.params),
                    metadata);
}

void write_full(const Export& from, const std::string& directory) {
  const std::string& lm = from.sources.pretrained.lm_directory;
  const std::string& vision = from.sources.pretrained.vision_directory;
  const std::string decoder_directory = directory + "/lang_decoder";
  const std::string vision_directory = directory + "/vis_encoder";
  make_directories(decoder_directory);
  make_directories(vision_directory);
  std::vector<TensorToWrite> tensors = decoder_tensors(from.params, from.config);
  write_decoder_config(lm, decoder_directory + "/config.json", from.config.lm, main_type(tensors));
  write_model_safetensors(decoder_directory, std::move(tensors), from.form.shard_bytes);
  write_tokenizer(decoder_directory, from.sources);
  copy_if_there(lm + "/generation_config.json", decoder_directory + "/generation_config.json");
  tensors = fused_part(from.params, kVisionPrefix, from.config.vis_lora);
  write_vision_config(vision, vision_directory + "/config.json", from.config.vision.traits(),
                      main_type(tensors));
  write_model_safetensors(vision_directory, std::move(tensors), from.form.shard_bytes);
  write_preprocessor_config(vision, vision_directory + "/preprocessor_config.json",
                            from.sources.pads_images);
  write_projection(from, directory);
}

void write_llava(const Export& from, const std::string& directory) {
  const PretrainedSources& sources = from.sources.pretrained;
  std::vector<TensorToWrite> tensors = llava_tensors(from.params, from.config);
  write_llava_configs(directory, from.config, from.sources, main_type(tensors));
  write_model_safetensors(directory, std::move(tensors), from.form.shard_bytes);
  write_tokenizer(directory, from.sources);
  copy_if_there(sources.lm_directory + "/generation_config.json",
                directory + "/generation_config.json");
  write_preprocessor_config(sources.vision_directory, directory + "/preprocessor_config.json",
                            from.sources.pads_images);
}

void write_adapter_part(const Export& from, const std::string& directory, std::string_view prefix,
                        const std::string& base_model, std::vector<TensorToWrite> tensors) {
  if (tensors.empty()) return;
  make_directories(directory);
  const bool lang = prefix == kDecoderPrefix;
  std::error_code ignored;
  write_file(
      directory + "/adapter_config.json",
      adapter_config_text(from.table, prefix, lang ? from.config.lang_lora : from.config.vis_lora,
                          lang ? from.config.saved_modules : std::vector<std::string>(),
                          std::filesystem::absolute(base_model, ignored).string()));
  write_safetensors(directory + "/adapter_model.safetensors", std::move(tensors));
}

void write_adapter(const Export& from, const std::string& directory) {
  const std::string decoder = directory + "/lang_decoder";
  make_directories(decoder);
  write_adapter_part(from, decoder, kDecoderPrefix, from.sources.pretrained.lm_directory,
                     lang_adapter_tensors(from.params));
  write_tokenizer(decoder, from.sources);
  write_adapter_part(from, directory + "/vis_encoder", kVisionPrefix,
                     from.sources.pretrained.vision_directory,
                     lora_tensors(from.params, kVisionPrefix));
  write_projection(from, directory);
  std::vector<TensorToWrite> others = other_tensors(from.params, from.config, from.added_rows);
  if (!others.empty())
    write_safetensors(directory + "/other_weights.safetensors", std::move(others));
}

// A file that is not there has none.
int64_t bytes_of_file(const std::string& path) {
  std::error_code error;
  const uintmax_t bytes = std::filesystem::file_size(path, error);
  return error ? 0 : static_cast<int64_t>(bytes);
}

void refuse_without_room(const std::string& directory, int64_t bytes, const std::string& out) {
  const int64_t free = free_bytes(directory);
  CHECK(bytes <= free, ExitCode::kIo,
        "{}: the export needs {:.2f} GiB, {:.2f} GiB are free; free space, or choose a smaller "
        "export (--export adapter, --export_dtype bf16)",
        out, static_cast<double>(bytes) / (int64_t{1} << 30),
        static_cast<double>(free) / (int64_t{1} << 30));
}

int64_t bytes_of_export(const ParamMap& params, const VlmConfig& config,
                        const ExportSources& sources, ExportKind kind) {
  constexpr int64_t kOtherFiles = 1 << 16, kHeaderOfTensor = 1 << 8;
  int64_t bytes = kOtherFiles + bytes_of_file(sources.tokenizer_file) +
                  bytes_of_file(sources.pretrained.lm_directory + "/config.json") +
                  bytes_of_file(sources.pretrained.vision_directory + "/config.json");
  std::vector<std::vector<TensorToWrite>> parts;
  if (kind == ExportKind::kFull && exports_llava(config, sources)) {
    parts.push_back(llava_tensors(params, config));
  } else if (kind == ExportKind::kFull) {
    parts.push_back(projection_tensors(params));
    parts.push_back(decoder_tensors(params, config));
    parts.push_back(fused_part(params, kVisionPrefix, config.vis_lora));
  } else {
    parts.push_back(projection_tensors(params));
    parts.push_back(lang_adapter_tensors(params));
    parts.push_back(lora_tensors(params, kVisionPrefix));
    parts.push_back(other_tensors(params, config, 0));
  }
  for (const std::vector<TensorToWrite>& part : parts)
    for (const TensorToWrite& tensor : part) bytes += kHeaderOfTensor + tensor.bytes();
  return bytes;
}

ParamMap map_of(const ParamTable& table, const WeightOrigins& origins, const ExportForm& form,
                ReadParam read) {
  return map_of(
      table,
      [&origins, type = form.type](const Param& param) {
        return type ? *type : origins.type_of(param);
      },
      std::move(read),
      [&](const Param& param) { return !param.trained && origins.is_in_models(param); });
}

// Values of frozen parameters are those of the files.
ReadParam read_frozen_and_trained(const WeightOrigins& origins, ReadParam read_trained) {
  return [&origins, read_trained = std::move(read_trained)](const Param& param, int64_t begin,
                                                            int64_t count, float* out) {
    if (param.trained) return read_trained(param, begin, count, out);
    origins.read(param, begin, count, out);
  };
}

// As if it had been written in this type and read.
void round_through(DType type, float* values, int64_t count) {
  if (!is_16_bit(type)) return;
  constexpr int64_t kPieceElements = int64_t{1} << 16;
  std::vector<uint16_t> words(static_cast<size_t>(std::min(kPieceElements, count)));
  for (int64_t done = 0; done < count; done += kPieceElements) {
    const int64_t piece = std::min(kPieceElements, count - done);
    round_to_16_bits(words.data(), values + done, piece, type);
    widen(values + done, words.data(), piece, type);
  }
}

// The parameters of a full export, one at a time.
class AsExported {
 public:
  AsExported(const VlmConfig& config, ParamMap params)
      : config_(config), params_(std::move(params)) {}

  void read(const Param& param, int64_t begin, int64_t count, float* out) {
    if (tensor_.name != param.name) tensor_ = tensor_of(param.name);
    tensor_.read(begin, count, out);
    round_through(tensor_.type, out, count);
  }

 private:
  // The decoder's table is lang_embed, unless its head is tied to it (decoder_tensors).
  TensorToWrite tensor_of(const std::string& name) const {
    const bool embeds = name == kTokenTable && !config_.lm.tie_word_embeddings;
    const Param* param = params_.find(embeds ? kLangEmbed : std::string_view(name));
    ASSERT(param != nullptr, "{} is no parameter of the trained model", name);
    return merged_copy(params_, name, *param,
                       name.starts_with(kVisionPrefix) ? config_.vis_lora : config_.lang_lora);
  }

  const VlmConfig& config_;
  const ParamMap params_;
  TensorToWrite tensor_;  // that was asked for last
};

}  // namespace

int64_t estimated_export_bytes(const ParamTable& table, const VlmConfig& config,
                               const ExportSources& sources, const ExportForm& form,
                               const std::function<DType(const Param&)>& type_in_file) {
  return bytes_of_export(
      map_of(
          table, [&](const Param& param) { return form.type ? *form.type : type_in_file(param); },
          {}, [](const Param& param) { return !param.trained; }),
      config, sources, form.kind);
}

int64_t estimated_export_bytes(const ParamTable& table, const VlmConfig& config,
                               const ExportSources& sources, const ExportForm& form) {
  const WeightOrigins origins(table, config, sources.pretrained, sources.seed);
  return bytes_of_export(map_of(table, origins, form, {}), config, sources, form.kind);
}

void export_model(const std::string& out_directory, const ParamTable& table,
                  const VlmConfig& config, const ExportSources& sources, const ExportForm& form,
                  const ReadParam& read_trained, const std::function<void()>& between_pieces) {
  const WeightOrigins origins(table, config, sources.pretrained, sources.seed);
  const ReadParam read_values = read_frozen_and_trained(origins, read_trained);
  const ParamMap params = map_of(table, origins, form,
                                 [&](const Param& param, int64_t begin, int64_t count, float* out) {
                                   if (between_pieces) between_pieces();
                                   read_values(param, begin, count, out);
                                 });
  const Param& head = *params.find(config.lm.tie_word_embeddings ? kTokenTable : kHead);
  const Export from{table, config, sources, form, params, origins.added_rows(head)};
  std::string place = out_directory;
  while (place.size() > 1 && place.ends_with('/')) place.pop_back();
  const std::string working = make_partial_directory(place);
  try {
    refuse_without_room(working, bytes_of_export(params, config, sources, form.kind), place);
    if (form.kind == ExportKind::kAdapter)
      write_adapter(from, working);
    else if (exports_llava(config, sources))
      write_llava(from, working);
    else
      write_full(from, working);
    publish_directory(working, place);
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove_all(working, ignored);
    throw;
  }
}

ReadParam read_as_exported(const ParamTable& trained, const VlmConfig& config,
                           const WeightOrigins& origins, const ReadParam& read_trained) {
  auto exported = std::make_shared<AsExported>(
      config, map_of(trained, origins, {}, read_frozen_and_trained(origins, read_trained)));
  return [exported](const Param& param, int64_t begin, int64_t count, float* out) {
    exported->read(param, begin, count, out);
  };
}

ReadParam read_through(const OpenUnit& open_unit) {
  return [open_unit](const Param& param, int64_t begin, int64_t count, float* out) {
    open_unit(param.unit);
    std::copy_n(param.value.f32() + begin, count, out);
  };
}

}  // namespace facet
