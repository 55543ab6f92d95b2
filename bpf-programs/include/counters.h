// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Counting. Rows of a plain array, one for each CPU: packets are processed in softirq, so that nothing else counts on
// the same CPU at the same time, and no element is shared.
#ifndef NETD_COUNTERS_H
#define NETD_COUNTERS_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "maps.h"

// Elements of a row; set when the program is loaded.
const volatile __u32 counter_stride = 1;
const volatile __u32 service_stride = 1;

static __always_inline void count_sent(const struct backend *backend, __u32 bytes)
{
	const __u32 key = bpf_get_smp_processor_id() * counter_stride + backend->counter;
	struct counter *counter = bpf_map_lookup_elem(&counters, &key);

	if (counter) {
		counter->packets += 1;
		counter->bytes += bytes;
	}
}

static __always_inline struct service_counter *service_counter_of(const struct frontend *frontend)
{
	const __u32 key = bpf_get_smp_processor_id() * service_stride + frontend->service;

	return bpf_map_lookup_elem(&service_counters, &key);
}

// Why a packet for a VIP is dropped; the names are those of service_counter's members.
enum drop { NO_BACKEND, NO_NEXT_HOP, MALFORMED };

// Out of line: it is not the way that packets go.
static __noinline int dropped(const struct frontend *frontend, enum drop reason)
{
	struct service_counter *counter = service_counter_of(frontend);

	if (counter) {
		if (reason == NO_BACKEND)
			counter->no_backend += 1;
		else if (reason == NO_NEXT_HOP)
			counter->no_next_hop += 1;
		else
			counter->malformed += 1;
	}
	return XDP_DROP;
}

#endif
