// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// How many errors may be sent in a second. Each CPU has its share, so that none waits for another.
#ifndef NETD_LIMITS_H
#define NETD_LIMITS_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "clock.h"
#include "maps.h"

enum limited { ERRORS, RELAYED };

// Whether a CPU that has sent so many has one left of its share, which is at least one where any are sent at all.
static __always_inline int is_below_share(__u32 sent)
{
	const __u32 zero = 0;
	const struct meta *const what = bpf_map_lookup_elem(&meta, &zero);
	const __u32 total = settings.icmp_errors_per_second;

	if (!what || !total)
		return 0;
	return !sent || (sent + 1ull) * what->ncpu <= total;
}

// Whether one more may be sent now. It counts as sent.
static __always_inline int is_within(enum limited what)
{
	const __u32 cpu = bpf_get_smp_processor_id();
	struct limit *const limit = bpf_map_lookup_elem(&limits, &cpu);
	const __u64 now = now_ns();
	__u32 *sent;

	if (!limit)
		return 0;
	if (now - limit->second >= NS_PER_SECOND) {
		limit->second = now - now % NS_PER_SECOND;
		limit->errors = limit->relayed = 0;
	}
	sent = what == ERRORS ? &limit->errors : &limit->relayed;
	if (!is_below_share(*sent))
		return 0;
	*sent += 1;
	return 1;
}

#endif
