// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// What the load balancer decided, for the record of the packet that it is working on. A program that does not record
// has nothing of this in it.
#ifndef NETD_RECORDER_NOTES_H
#define NETD_RECORDER_NOTES_H

#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#ifdef RECORDING

#include "recorder_abi.h"

// The packet that this CPU is working on. Packets are processed in softirq, one after the other.
struct recorded {
	__u64 id;
	__u32 captures;
	__u32 service;
	__u32 backend;
	__u32 event;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct recorded);
} record_now SEC(".maps");

static __always_inline struct recorded *recorded_now(void)
{
	const __u32 zero = 0;

	return bpf_map_lookup_elem(&record_now, &zero);
}

static __always_inline void note_event(__u32 service, __u32 event)
{
	struct recorded *const now = recorded_now();

	if (now) {
		now->service = service;
		now->event = event;
	}
}

static __always_inline void note_backend(__u32 counter)
{
	struct recorded *const now = recorded_now();

	if (now)
		now->backend = counter;
}

#else

static __always_inline void note_event(__u32 service, __u32 event)
{
	(void)service;
	(void)event;
}

static __always_inline void note_backend(__u32 counter)
{
	(void)counter;
}

#endif
#endif
