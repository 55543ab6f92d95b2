// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The load balancer while anything is recorded: the same program with the recorder before and behind it. The one that
// runs otherwise has nothing of the recorder in it.
#define RECORDING
#include "xdp_lb.bpf.c"
