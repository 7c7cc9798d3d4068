// cuBLASLt, or the emulation of the part of it in use.
#pragma once

#if defined(FACET_EMULATED)
#include "emulated/device/cublaslt.h"
#else
#include <cublasLt.h>
#endif
