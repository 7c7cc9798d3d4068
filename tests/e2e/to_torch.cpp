// to_torch OUT.bin PREFIX FILE.safetensors [PREFIX FILE]...: the tensors of the files, their names
// behind the prefixes, as torch.save() writes them; matrices as transposed views. Reads only what
// this program's own export writes, and shares no code with its readers.
#include <cstring>
#include <fstream>
#include <iterator>
#include <regex>
#include <sstream>

#include "tests/io/torch_writer.h"

using facet::TensorForTorch;

namespace {

std::string content_of(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<int64_t> numbers_in(const std::string& list) {
  std::vector<int64_t> numbers;
  std::istringstream text(std::regex_replace(list, std::regex(","), " "));
  for (int64_t n = 0; text >> n;) numbers.push_back(n);
  return numbers;
}

void add(const std::string& prefix, const std::string& file, std::vector<TensorForTorch>& tensors) {
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.data(), 8);
  const std::string header = file.substr(8, header_bytes);
  const std::regex entry(
      R"re("([^"]+)":\s*\{\s*"dtype":\s*"F32",\s*"shape":\s*\[([^\]]*)\],\s*"data_offsets":\s*\[([^\]]*)\])re");
  for (std::sregex_iterator at(header.begin(), header.end(), entry), end; at != end; ++at) {
    const std::vector<int64_t> range = numbers_in((*at)[3]);
    std::vector<float> values(static_cast<size_t>((range[1] - range[0]) / 4));
    std::memcpy(values.data(), file.data() + 8 + header_bytes + range[0], 4 * values.size());
    tensors.push_back({prefix + (*at)[1].str(), numbers_in((*at)[2]), std::move(values)});
  }
}

}  // namespace

int main(int count, char** arguments) {
  std::vector<TensorForTorch> tensors;
  for (int i = 2; i + 1 < count; i += 2) add(arguments[i], content_of(arguments[i + 1]), tensors);
  std::ofstream(arguments[1], std::ios::binary) << facet::torch_file_of(tensors);
  return tensors.empty() ? 1 : 0;
}
