// NCCL, or the emulation of the part of it in use.
#pragma once

#if defined(FACET_EMULATED)
#include "emulated/comm/nccl.h"
#else
#include <nccl.h>
#endif
