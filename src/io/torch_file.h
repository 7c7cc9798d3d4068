// Files of torch.save() that hold a dictionary of tensors: pytorch_model.bin.
//
// Since PyTorch 1.6 that is a zip file without compression: NAME/data.pkl, a pickle, NAME/data/KEY
// for each storage, NAME/byteorder, NAME/version (torch/serialization.py, torch/_utils.py). In the
// pickle a tensor is a call of torch._utils._rebuild_tensor_v2(storage, offset, size, stride,
// requires_grad, hooks), a parameter one of torch._utils._rebuild_parameter(tensor, requires_grad,
// hooks), and a storage the persistent id ('storage', its class, KEY, device, elements). Of types
// without such a class (8-bit floats, unsigned integers) a tensor is a call of
// torch._utils._rebuild_tensor_v3 with its type behind the hooks, and its storage an
// UntypedStorage, whose elements are bytes. Tensors may share a storage and be transposed or cut in
// it. Nothing else is allowed, and nothing is executed.
//
// What is refused by name: files from before 1.6, TorchScript archives, big-endian machines' files,
// any other global in the pickle, any value that is no tensor.
//
// The CRC-32 of data.pkl is checked when the file is opened, that of a storage before the first of
// its values is read. A CRC-32 of 0 is taken for none.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>

#include "io/tensor_file.h"
#include "io/zip_file.h"

namespace facet {

// Whether a file is called as torch.save()'s usually are: *.bin, *.pt, *.pth.
bool is_torch_name(std::string_view path);

class TorchFile : public TensorFile {
 public:
  // Reads the zip's directory and the pickle. kMissingInput, kBadData.
  explicit TorchFile(std::string path);

 private:
  void check_before_reading(const StoredTensor& tensor) const override;
  std::string content_of(const std::string& entry) const;
  void read_pickle(const std::string& archive);
  void check_crc(const std::string& entry) const;

  std::map<std::string, ZipEntry> entries_;
  std::map<std::string, std::string, std::less<>> entry_of_;  // by tensor
  mutable std::set<std::string> sound_;                       // entries whose CRC-32 was checked
};

}  // namespace facet
