// ParamTable: the parameters of the model by name, cut into units (a block of the model each), laid
// out in one flat trained and one flat frozen buffer per unit. Partition, optimizer, checkpoint and
// export see the flat buffers and the names; layers see Tensors. Values are of the type that the
// layers compute in, gradients always fp32.
//
// Life: the model declares its parameters, --freeze/--unfreeze set who is trained, allocate() lays
// them out, then values are loaded or drawn. Parameters of a unit with the same trained flag lie
// one behind the other in the order of declaration without gaps, so that e.g. q, k and v weights
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

// How a parameter that no file brings is drawn. Draws are keyed by (seed, name).
enum class Init : uint8_t {
  kZero,
  kOne,
  kNormal002,      // normal, std 0.02
  kUniformFanIn,   // uniform within 1/sqrt(fan_in); fan_in is Param::fan_in
  kXavierUniform,  // uniform within sqrt(6/(fan_in+fan_out)) of the 2-D shape
  kSinCosGrid,     // not random: 2-D sin-cos positions of a square grid, (g*g,D), D = 4n
  kNone,           // must come from a file: drawing it is an error
};

// What the parameter is, for the no-decay rule and for export.
enum class ParamRole : uint8_t { kWeight, kBias, kNormWeight, kEmbedding, kLora };

struct Param {
  std::string name;  // Hugging Face name under its prefix, e.g. "lang_decoder.model.norm.weight"
  std::vector<int64_t> shape;  // as in the file
  ParamRole role = ParamRole::kWeight;
  Init init = Init::kNone;
  int64_t fan_in = 0;  // for kUniformFanIn
  int unit = 0;
  bool trained = false;
  bool constant = false;  // never trained whatever --unfreeze says: no gradient is computed
  int64_t offset = 0;     // elements from the begin of its unit's trained or frozen buffer
  Tensor value;           // (shape folded to at most 2-D: first dimension, rest)
  Tensor grad;            // the same shape, fp32; undefined unless trained

  int64_t numel() const {
    int64_t n = 1;
    for (const int64_t size : shape) n *= size;
    return n;
  }
};

// A block of the model: what is gathered, recomputed and reduced as a whole.
struct ParamUnit {
  std::string name;            // "vis_encoder.layers.3", "lang_embed", ...
  std::vector<Param*> params;  // in order of declaration
  Tensor trained_values;       // (elements, padded)
  Tensor trained_grads;        // the same length, fp32
  Tensor frozen_values;        // (elements)
};

// Whoever reads or fills all values of a table calls this before it touches those of another unit:
// the values of a partitioned table, or of one of 16 bits, are there in fp32 one unit at a time.
// kNoUnit: it is done.
using OpenUnit = std::function<void(int unit)>;
constexpr int kNoUnit = -1;
inline void nothing_to_open(int) {}  // for a table whose values are all there

class ParamTable {
 public:
  ParamTable() = default;
  ParamTable(const ParamTable&) = delete;
  ParamTable& operator=(const ParamTable&) = delete;

  // All parameters declared from here on belong to this unit. Returns its number.
  int begin_unit(std::string name);
  // Names are unique. The pointer stays valid as long as the table.
  Param* add(std::string name, std::vector<int64_t> shape, ParamRole role, Init init,
             int64_t fan_in = 0);

  // Sets `trained` of every parameter whose name starts with the prefix (constants excepted).
  // Returns how many it has set, so that a prefix that names nothing can be refused.
  int64_t set_trained(std::string_view name_prefix, bool trained);

  // Where the buffers will be; on the host unless it says otherwise. Before allocate().
  void place_in(MemoryResource& memory);
  MemoryResource& memory() const { return *memory_; }

  // Lays out the buffers. Each unit's trained buffer is padded with zeros to a multiple of
  // pad_elements. `measure_only`: addresses that must not be touched (for plan and --dry_run).
  enum class Memory { kReal, kMeasureOnly };
  void allocate(int64_t pad_elements, Memory memory = Memory::kReal, DType dtype = DType::kF32);
  // With gradients (training) or without (evaluate, generate). After allocate(); where the values
  // are only measured, so are they.
  void allocate_gradients(Memory memory = Memory::kReal);

  // Moves the unit's tensors, and those of its parameters, to buffers of the same lengths, of any
  // type. For whoever keeps the memory of a table that was laid out with kMeasureOnly, or shows its
  // values in another type.
  void bind_values(int unit, const Tensor& trained, const Tensor& frozen);
  void bind_gradients(int unit, const Tensor& trained);

  Param* find(std::string_view name);  // nullptr when there is none
  const std::deque<Param>& params() const { return params_; }
  std::deque<Param>& params() { return params_; }
  std::vector<ParamUnit>& units() { return units_; }
  const std::vector<ParamUnit>& units() const { return units_; }

  int64_t trained_elements() const;  // padding not counted
  int64_t frozen_elements() const;
  int64_t bytes() const;                  // values and gradients, padding counted
  DType dtype() const { return dtype_; }  // of the values as the layers see them

  // Draws one parameter, whose value is on the host, by its rule, in fp32; the same (seed, name)
  // gives the same values on every machine and rank.
  static void draw(Param& param, uint64_t seed);

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
