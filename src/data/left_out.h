// Counts what a data set leaves out when it is opened, by reason, for one line of the log each.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace facet {

class LeftOut {
 public:
  // `example`: where the first one of this reason lies.
  void add(const std::string& reason, const std::string& example);
  // If nothing is kept this is Error(kBadData).
  void tell(const std::string& dataset, int64_t kept) const;

 private:
  struct Reason {
    int64_t count = 0;
    std::string example;
  };
  std::map<std::string, Reason> reasons_;
};

// The reason for a conversation with so many images; "" if they are not more.
std::string why_not_so_many(int64_t images, int64_t max_images);

}  // namespace facet
