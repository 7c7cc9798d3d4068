// The CUDA runtime, or the emulation of the part of it in use.
#pragma once

#if defined(FACET_EMULATED)
#include "emulated/device/cuda_runtime.h"
#include "emulated/device/devices.h"
#else
#include <cuda_runtime_api.h>
#endif
