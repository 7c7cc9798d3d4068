// ParamTable: the parameters of the model by name, grouped into units (one block of the model
// each), with one flat trained and one flat frozen buffer per unit. Partitioning, optimizer,
// checkpoint and export see the flat buffers and the names; layers see Tensors. Values have the
// type that the layers compute in; gradients are always fp32.
//
// Life cycle: the model declares its parameters, --freeze/--unfreeze set which are trained,
// allocate() lays them out, then values are loaded or initialised. Parameters of a unit with the
// same trained flag are contiguous in the order of declaration, so that e.g. q, k and v weights
// declared in a row form one packed matrix.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "device/arena.h"
#include "device/tensor.h"

namespace facet {

// How a parameter that is in no file is initialised. Random draws are keyed by (seed, name).
enum class Init : uint8_t {
  kZero,
  kOne,
  kNormal002,      // normal, std 0.02
  kUniformFanIn,   // uniform within 1/sqrt(fan_in); fan_in is Param::fan_in
  kXavierUniform,  // uniform within sqrt(6/(fan_in+fan_out)) of the 2-D shape
  kSinCosGrid,     // not random: 2-D sin-cos positions of a square grid, (g*g,D), D = 4n
  kRowNorms,       // not random: the L2 norms of the rows of Param::rows_of, which has its values
  kNone,           // must come from a file: initialising it is an error
};

// The kind of parameter, for the no-decay rule and for export.
enum class ParamRole : uint8_t { kWeight, kBias, kNormWeight, kEmbedding, kLora };

// Which part of a larger parameter one is, where several ranks hold that together: along one axis
// the places [begin, begin + shape[axis]) of `whole`.
struct ParamPart {
  size_t axis = 0;
  int64_t begin = 0;
  int64_t whole = 0;  // 0: it is no part
};

struct Param {
  std::string name;  // Hugging Face name under its prefix, e.g. "lang_decoder.model.norm.weight"
  std::vector<int64_t> shape;  // as in the file, but of a part its own
  ParamRole role = ParamRole::kWeight;
  Init init = Init::kNone;
  int64_t fan_in = 0;              // for kUniformFanIn
  const Param* rows_of = nullptr;  // for kRowNorms: a matrix of the same unit, declared before
  int unit = 0;
  bool trained = false;
  bool constant = false;  // never trained whatever --unfreeze says: no gradient is computed
  ParamPart part = {};
  // In an adapter that has it whole (PEFT's modules_to_save): under which name; else "".
  std::string saved_as;
  int64_t offset = 0;  // elements from the beginning of its unit's trained or frozen buffer
  Tensor value;        // (shape folded to at most 2-D: first dimension, rest)
  Tensor grad;         // the same shape, fp32; undefined unless trained

  int64_t numel() const {
    int64_t n = 1;
    for (const int64_t size : shape) n *= size;
    return n;
  }
  bool is_part() const { return part.whole > 0; }
};

// What a part is of, in the shape of the file and without values; of a whole parameter the same.
Param whole_of(const Param& param);

// A block of the model: the granularity of gathering, recomputation and reduction.
struct ParamUnit {
  std::string name;            // "vis_encoder.layers.3", "lang_embed", ...
  std::vector<Param*> params;  // in order of declaration
  Tensor trained_values;       // (elements, padded)
  Tensor trained_grads;        // the same length, fp32
  Tensor frozen_values;        // (elements)
};

// Called before the values of another unit are read or filled: the values of a partitioned table,
// or of a 16-bit one, are accessible in fp32 one unit at a time. kNoUnit: done.
using OpenUnit = std::function<void(int unit)>;
constexpr int kNoUnit = -1;
inline void nothing_to_open(int) {}  // for a table whose values are all accessible

class ParamTable {
 public:
  ParamTable() = default;
  ParamTable(const ParamTable&) = delete;
  ParamTable& operator=(const ParamTable&) = delete;

  // Parameters declared from here on belong to this unit. Returns its number.
  int begin_unit(std::string name);
  // Names are unique. The pointer is valid as long as the table.
  Param* add(std::string name, std::vector<int64_t> shape, ParamRole role, Init init,
             int64_t fan_in = 0, ParamPart part = {});

  // Sets `trained` of every parameter whose name starts with the prefix (except constants). Returns
  // how many were set, so that a prefix that matches nothing can be rejected.
  int64_t set_trained(std::string_view name_prefix, bool trained);

  // Where the buffers will be allocated, host memory by default. Before allocate().
  void place_in(MemoryResource& memory);
  MemoryResource& memory() const { return *memory_; }

  // Lays out the buffers. Each unit's trained buffer is padded with zeros to a multiple of
  // pad_elements. `measure_only`: addresses that must not be touched (for plan and --dry_run).
  enum class Memory { kReal, kMeasureOnly };
  void allocate(int64_t pad_elements, Memory memory = Memory::kReal, DType dtype = DType::kF32);
  // Adds gradients, for training. After allocate(); if the values are only measured, so are they.
  void allocate_gradients(Memory memory = Memory::kReal);

  // Makes the unit's tensors, and those of its parameters, point to buffers of the same lengths, of
  // any type. For code that owns the memory of a table laid out with kMeasureOnly, or presents its
  // values in another type.
  void bind_values(int unit, const Tensor& trained, const Tensor& frozen);
  void bind_gradients(int unit, const Tensor& trained);

  Param* find(std::string_view name);  // nullptr if there is none
  const std::deque<Param>& params() const { return params_; }
  std::deque<Param>& params() { return params_; }
  std::vector<ParamUnit>& units() { return units_; }
  const std::vector<ParamUnit>& units() const { return units_; }

  int64_t trained_elements() const;  // without padding
  int64_t frozen_elements() const;
  int64_t bytes() const;                  // values and gradients, with padding
  DType dtype() const { return dtype_; }  // of the values as the layers see them

  // Initialises one parameter, whose value is in host memory, by its rule, in fp32; the same (seed,
  // name) gives the same values on every machine and rank.
  static void draw(Param& param, uint64_t seed);
  // norms (rows) = the L2 norms of the rows of values (rows,columns), added in double.
  static void row_norms(float* norms, const float* values, int64_t rows, int64_t columns);

 private:
  void zero(const Tensor& x) const;
  void zero_gradients() const;

  std::deque<Param> params_;
  std::unordered_map<std::string_view, Param*> by_name_;  // keys are the parameters' own names
  std::vector<ParamUnit> units_;
  DType dtype_ = DType::kF32;
  MemoryResource* memory_ = &host_memory();
  std::unique_ptr<Arena> values_;
  std::unique_ptr<Arena> grads_;
};

}  // namespace facet
