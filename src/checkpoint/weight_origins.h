// Where each parameter's starting value comes from: files, an adapter, or a random draw. Loading
// reads them once; an export reads those of frozen parameters again, so that it has the files' own
// values and not what a run keeps of them in 16 bits.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "checkpoint/adapter.h"
#include "checkpoint/hugging_face.h"
#include "io/llava_directory.h"
#include "io/tensor_directory.h"

namespace facet {

// The tensors of a decoder or a vision encoder, from its own directory or from that of a whole
// LLaVA.
TensorDirectory open_model(const std::string& directory, LlavaPart part);

// The file with projection and lang_embed of these sources; "": there is none.
std::string projection_file_of(const PretrainedSources& sources);

// Of a parameter that is a part it knows the whole (whole_of), which its functions are asked about.
class WeightOrigins {
 public:
  // Reads the directories' headers. Missing and wrongly shaped tensors are listed in ONE
  // Error(kConfig), with what is there instead if it is recognised. `table` and `config` must
  // outlive this.
  WeightOrigins(const ParamTable& table, const VlmConfig& config, const PretrainedSources& sources,
                uint64_t seed);

  const std::string& projection_file() const { return projection_file_; }  // "": none
  const std::vector<std::string>& unused() const { return unused_; }       // a line for each source
  std::string read_from() const;
  const std::map<std::string, std::string>& metadata() const;  // of the projection's file

  bool is_drawn(const Param& param) const { return origin_of(param).source == nullptr; }
  // From the directories of the two models, neither from an adapter nor from a file with all parts.
  bool is_in_models(const Param& param) const;
  // Rows at the end of a table of tokens that its file does not have.
  int64_t added_rows(const Param& param) const;
  // The type in the file; fp32 for what is drawn, and for fp64, which is read as fp32.
  DType type_of(const Param& param) const;
  // Elements [begin, begin+count) as training starts with them, rounded nowhere.
  void read(const Param& param, int64_t begin, int64_t count, float* out) const;

 private:
  // A source of parameters, and which of its tensors have been claimed.
  struct Source {
    explicit Source(TensorDirectory directory) : tensors(std::move(directory)) {}

    TensorDirectory tensors;
    std::set<std::string, std::less<>> claimed;
    std::vector<std::string> missing;

    std::vector<std::string> unclaimed() const;
    bool has_part(std::string_view prefix) const;  // tensors of this part of the model
  };
  struct Origin {
    const Source* source = nullptr;  // nullptr: drawn
    std::string name;                // in the source
    int64_t elements = 0;  // in the source; fewer than the parameter's if tokens were added
    bool transposed = false;
  };

  const Origin& origin_of(const Param& param) const;
  void open(const PretrainedSources& sources);
  void open_adapter(const std::string& directory);
  void open_projection(TensorDirectory tensors);
  void place(const Param& param);
  bool place_from_adapter(const Param& param);
  void pass_over(const Param& param);
  void claim(const Param& param, Source& source, const std::string& name);
  void check(const Param& param, Source& source, const std::string& name,
             const StoredTensor* stored);
  std::vector<int64_t> shape_in_file(const Param& param, const Source& source,
                                     const StoredTensor* stored) const;
  void note_missing(const Source& source);  // why, if it is recognised
  void note_foreign_modules();
  void note_unused();
  void note_merged_lora();
  bool is_known_in_projection(const std::string& name) const;
  [[noreturn]] void fail_with_problems() const;
  const std::vector<float>& made_values(const Param& param) const;
  std::vector<float> row_norms(const Param& matrix) const;
  void read_transposed(const Param& param, const Origin& origin, float* out) const;
  void make_added_rows(const Param& param, const Origin& origin, float* out) const;
  std::vector<float> mean_row(const Origin& origin, int64_t columns) const;

  const VlmConfig& config_;
  uint64_t seed_;
  std::string lm_directory_;
  int64_t file_rows_ = 0;  // vocab_size of the decoder's config.json
  std::string projection_file_;
  std::optional<Adapter> adapter_;
  std::optional<Source> projection_;
  bool embeds_as_decoder_ = false;  // projection_ lacks lang_embed: it is the decoder's table
  std::optional<Source> decoder_, vision_;                 // none where projection_ holds that part
  std::optional<Source> lang_lora_, vision_lora_, other_;  // of the adapter
  std::map<std::string, Origin, std::less<>> origins_;     // by the parameter's name
  std::vector<std::string> problems_, reasons_, unused_;
  // What is in no file as it is read, of the parameter that was asked for last: a draw, rows of
  // added tokens, a transposed matrix.
  mutable std::string made_for_;
  mutable std::vector<float> made_;
};

}  // namespace facet
