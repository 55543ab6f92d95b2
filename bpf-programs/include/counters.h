// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Counting. Rows of a plain array, one for each CPU: packets are processed in softirq, so that nothing else counts on
// the same CPU at the same time, and no element is shared.
#ifndef NETD_COUNTERS_H
#define NETD_COUNTERS_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "maps.h"
#include "recorder_notes.h"

// Elements of a row; set when the program is loaded.
const volatile __u32 counter_stride = 1;
const volatile __u32 service_stride = 1;

// The words of service_counter, in its order.
enum event {
	NO_BACKEND,
	NO_NEXT_HOP,
	KEPT_FLOWS,
	MALFORMED,
	TOO_BIG,
	SOURCE_REFUSED,
	MARTIAN,
	UNKNOWN_PORT,
	FRAGMENT_LOST,
	RATE_LIMITED,
	REJECTED,
	TOLD_TOO_BIG,
	ECHO_REPLIES,
	ICMP_RELAYED,
	FRAGMENTS,
	PASSED,
	EVENTS,
};

_Static_assert(EVENTS * sizeof(__u64) == sizeof(struct service_counter), "each word has a name");
_Static_assert(offsetof(struct service_counter, malformed) == MALFORMED * sizeof(__u64), "in the same order");
_Static_assert(offsetof(struct service_counter, rate_limited) == RATE_LIMITED * sizeof(__u64), "in the same order");
_Static_assert(offsetof(struct service_counter, passed) == PASSED * sizeof(__u64), "in the same order");

// The number of a backend's counter. It stands in the backend's line, which may be far away; where it can be guessed, it
// is, and a CPU that foresees that the guess is right fetches line and counter at once instead of one after the other.
static __always_inline __u32 counter_of(const struct frontend *frontend, __u32 index, const struct backend *backend)
{
	__u32 number = frontend->first_counter + index;

	if (number != backend->counter) {
		number = backend->counter;
		// Or the compiler sees that both ways give the same, and takes the long one.
		asm volatile("" : "+r"(number));
	}
	return number;
}

// `number` of a counter. `begins`: the packet is the first of a TCP connection.
static __always_inline void count_sent(__u32 number, __u32 bytes, int begins)
{
	const __u32 key = bpf_get_smp_processor_id() * counter_stride + number;
	struct counter *counter = bpf_map_lookup_elem(&counters, &key);

	note_backend(number);
	if (counter) {
		counter->packets += 1;
		counter->bytes += bytes;
	}
	if (begins) {
		__u64 *begun = bpf_map_lookup_elem(&new_flows, &key);

		if (begun)
			*begun += 1;
	}
}

static __always_inline void count_here(__u32 service, enum event event)
{
	const __u32 key = bpf_get_smp_processor_id() * service_stride + service;
	__u64 *counter = bpf_map_lookup_elem(&service_counters, &key);

	note_event(service, event);
	if (counter && event < EVENTS)
		counter[event] += 1;
}

// Out of line, where it is not the way that many packets go.
static __noinline void count(__u32 service, enum event event)
{
	count_here(service, event);
}

static __always_inline int dropped(__u32 service, enum event reason)
{
	count(service, reason);
	return XDP_DROP;
}

#endif
