// The CUDA runtime, or the emulation of what is used of it.
#pragma once

#if defined(FACET_EMULATED)
#include "device/emulated/cuda_runtime.h"
#include "device/emulated/devices.h"
#else
#include <cuda_runtime_api.h>
#endif
