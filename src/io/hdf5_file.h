// One HDF5 file, used by one process: whole data sets of 1 to 4 dimensions and string attributes.
// Names are paths ("step_0/rank_1/pixels"); missing groups are created. Failures are Errors with
// HDF5's own reason; the library prints nothing.
//
// A file that open() reads is not trusted. Its data sets must lie in it as they are: no soft or
// external links, no storage in other files, no filters (they may be code that the library loads).
// No data set may claim more bytes than the file has, and all that is read together no more than
// twice its bytes: many names for one data set would fill the memory otherwise.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace facet {

class Hdf5File {
 public:
  static Hdf5File create(const std::string& path);  // replaces an older file
  static Hdf5File append(const std::string& path);  // adds to what create() made
  static Hdf5File open(const std::string& path);    // for reading; kMissingInput, kBadData
  Hdf5File(Hdf5File&& other) noexcept;
  Hdf5File& operator=(Hdf5File&& other) noexcept;
  Hdf5File(const Hdf5File&) = delete;
  Hdf5File& operator=(const Hdf5File&) = delete;
  ~Hdf5File();  // closes and ignores errors; call close() to get them

  void write(const std::string& name, const float* data, const std::vector<int64_t>& shape);
  void write(const std::string& name, const int32_t* data, const std::vector<int64_t>& shape);
  void write(const std::string& name, const int64_t* data, const std::vector<int64_t>& shape);

  // Creates a one-dimensional, contiguous fp32 data set without writing it. Once every data set is
  // created, offset_of() returns its place in the file; the values are written there by other
  // means.
  void reserve_f32(const std::string& name, int64_t elements);
  int64_t offset_of(const std::string& name) const;

  bool exists(const std::string& name) const;  // a data set or group; kBadData behind a link
  std::vector<int64_t> shape(const std::string& name) const;
  // The stored element type must be the requested one: nothing is converted silently.
  std::vector<float> read_f32(const std::string& name) const;
  std::vector<int32_t> read_i32(const std::string& name) const;
  std::vector<int64_t> read_i64(const std::string& name) const;

  // Attributes of a data set or group ("/" is the file itself).
  void write_attribute(const std::string& object, const std::string& key, const std::string& text);
  void write_attribute(const std::string& object, const std::string& key,
                       const std::vector<int64_t>& numbers);
  void write_attribute(const std::string& object, const std::string& key, int64_t number);
  void write_attribute(const std::string& object, const std::string& key, double number);
  bool has_attribute(const std::string& object, const std::string& key) const;
  std::string read_attribute(const std::string& object, const std::string& key) const;

  // Flushes everything to disk and closes.
  void close();

 private:
  Hdf5File(std::string path, int64_t file) : path_(std::move(path)), file_(file) {}

  // Opens a data set that lies in the file as it is.
  int64_t open_dataset(const std::string& name) const;
  template <typename T>
  std::vector<T> read(const std::string& name) const;
  void charge(const std::string& name, int64_t bytes) const;

  std::string path_;
  int64_t file_ = -1;               // hid_t
  int64_t file_bytes_ = 0;          // of a file opened for reading
  mutable int64_t read_bytes_ = 0;  // so far
};

}  // namespace facet
