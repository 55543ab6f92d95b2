// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The time of records and limits: nanoseconds since boot, without sleep, a tick late at most. The precise clock costs
// as much as half of everything else that is done for a packet.
#ifndef NETD_CLOCK_H
#define NETD_CLOCK_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#define NS_PER_SECOND 1000000000ull

static __always_inline __u64 now_ns(void)
{
	return bpf_ktime_get_coarse_ns();
}

// Zero for what is not yet: user space writes records by the precise clock.
static __always_inline __u64 ns_since(__u64 then)
{
	const __s64 ago = now_ns() - then;

	return ago > 0 ? ago : 0;
}

#endif
