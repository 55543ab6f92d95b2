// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Lets everything pass. A veth takes redirected and returned frames only while its peer has a program, too.
#include "parse.h"

SEC("xdp")
int xdp_pass(struct xdp_md *ctx)
{
	return frame(ctx) ? XDP_PASS : XDP_ABORTED;
}

char _license[] SEC("license") = "Dual BSD/GPL";
