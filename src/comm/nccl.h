// NCCL, or the emulation of what is used of it.
#pragma once

#if defined(FACET_EMULATED)
#include "emulated/comm/nccl.h"
#else
#include <nccl.h>
#endif
