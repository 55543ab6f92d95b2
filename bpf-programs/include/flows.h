// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Flows of slots whose backend has changed: the only ones that are remembered.
#ifndef NETD_FLOWS_H
#define NETD_FLOWS_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "counters.h"
#include "maps.h"
#include "ring.h"

// A record's time is this coarse, so that the packets of a flow do not write it each.
#define SEEN_EVERY_NS 1000000000ull

struct moved_flow {
	struct flow_key key;
	__u32 hash;
	__u32 index;
	__u32 is_first;
};

// A backend that may keep flows: not one that is out of order, nor a line that was given to another.
static __always_inline int keeps_flows(const struct backend *backend)
{
	return backend && (backend->flags & IN_USE) && backend->state <= TERMINATING;
}

static __always_inline void record(const struct frontend *frontend, const struct flow_key *key, __u32 index)
{
	const struct backend *backend = backend_at(frontend, index);
	struct flow flow = { .index = index };
	struct service_counter *counter;

	if (!backend)
		return;
	flow.counter = backend->counter;
	flow.seen_ns = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&flows, key, &flow, BPF_ANY))
		return;
	counter = service_counter_of(frontend);
	if (counter)
		counter->kept_flows += 1;
}

// The index of the backend that a flow stays with. `moved->index` is what the current ring says.
static __noinline __u32 kept_index(const struct frontend *frontend, const struct moved_flow *moved)
{
	const __u32 slots = frontend->previous_slots;
	const __u32 slot = slot_of(moved->hash, slots, frontend->previous_magic);
	const __u32 previous = index_in(frontend->previous_ring, slot, frontend->flags & WIDE_PREVIOUS);
	__u32 index = moved->index;
	struct flow *flow;

	if (!slots || previous == index)
		return index;

	flow = bpf_map_lookup_elem(&flows, &moved->key);
	if (flow) {
		const struct backend *backend = backend_at(frontend, flow->index);

		// A client that uses a port again is new: it is no business of a backend that drains.
		if (keeps_flows(backend) && backend->counter == flow->counter &&
		    (!moved->is_first || backend->state == ACTIVE)) {
			const __u64 now = bpf_ktime_get_ns();

			if (now - flow->seen_ns > SEEN_EVERY_NS)
				flow->seen_ns = now;
			return flow->index;
		}
	}
	// After the window a flow without a record is the current ring's, and needs none.
	if (!(frontend->flags & WINDOW_OPEN))
		return index;
	if (!moved->is_first && keeps_flows(backend_at(frontend, previous)))
		index = previous;
	record(frontend, &moved->key, index);
	return index;
}

#endif
