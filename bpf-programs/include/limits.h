// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// How many errors may be sent in a second. Each CPU has its share, so that none waits for another.
#ifndef NETD_LIMITS_H
#define NETD_LIMITS_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "clock.h"
#include "maps.h"

enum limited { ERRORS, RELAYED };

static __always_inline __u32 share_of_a_cpu(void)
{
	const __u32 zero = 0;
	const struct meta *what = bpf_map_lookup_elem(&meta, &zero);
	const __u32 total = settings.icmp_errors_per_second;
	__u32 share;

	if (!what || !what->ncpu)
		return 0;
	share = total / what->ncpu;
	return total && !share ? 1 : share;
}

// Whether one more may be sent now. It counts as sent.
static __noinline int is_within(enum limited what)
{
	const __u32 cpu = bpf_get_smp_processor_id();
	const __u64 second = now_ns() / NS_PER_SECOND;
	struct limit *limit = bpf_map_lookup_elem(&limits, &cpu);
	__u32 *sent;

	if (!limit)
		return 0;
	if (limit->second != second) {
		limit->second = second;
		limit->errors = limit->relayed = 0;
	}
	sent = what == ERRORS ? &limit->errors : &limit->relayed;
	if (*sent >= share_of_a_cpu())
		return 0;
	*sent += 1;
	return 1;
}

#endif
