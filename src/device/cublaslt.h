// cuBLASLt, or the emulation of what is used of it.
#pragma once

#if defined(FACET_EMULATED)
#include "emulated/device/cublaslt.h"
#else
#include <cublasLt.h>
#endif
