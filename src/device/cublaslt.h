// cuBLASLt, or the emulation of what is used of it.
#pragma once

#if defined(FACET_EMULATED)
#include "device/emulated/cublaslt.h"
#else
#include <cublasLt.h>
#endif
