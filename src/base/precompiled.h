// What nearly every source includes and nobody changes: compiled once for each set of flags (see
// PRECOMPILED in the Makefile). Every file still includes what it uses.
#pragma once

#include <fmt/core.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>
