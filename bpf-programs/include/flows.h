// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Records of flows: to which backend a flow went. Where a slot has not changed, nothing is read or written.
#ifndef NETD_FLOWS_H
#define NETD_FLOWS_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "clock.h"
#include "counters.h"
#include "maps.h"
#include "parse.h"
#include "ring.h"

// A record's time is this coarse, so that the packets of a flow do not write it each.
#define SEEN_EVERY_NS NS_PER_SECOND

// What a packet may do with records.
#define IS_FIRST 1
#define MAKES_RECORDS 2
#define TAKES_ANY_SLOT 4
#define READS_ONLY 8

// A flow, and what the current ring says about it.
struct asked {
	struct flow_key key;
	__u32 hash;
	__u32 index;
	__u32 traits;
	__u32 zero;
};

// A segment with RST, or with neither SYN nor ACK, belongs to no connection that lasts.
static __always_inline __u32 traits_of_tcp(__u8 flags)
{
	const __u32 makes_records = (flags & (TCP_SYN | TCP_ACK)) && !(flags & TCP_RST) ? MAKES_RECORDS : 0;

	return is_first_of_tcp(flags) ? makes_records | IS_FIRST | TAKES_ANY_SLOT : makes_records;
}

static __always_inline __u32 traits_of_udp(void)
{
	return MAKES_RECORDS | TAKES_ANY_SLOT;
}

// A backend that may keep flows: not one that is out of order, nor a line that was given to another.
static __always_inline int keeps_flows(const struct backend *backend)
{
	return backend && (backend->flags & IN_USE) && backend->state <= TERMINATING;
}

// The backend that a record means, if it may keep flows.
static __always_inline const struct backend *backend_of(const struct frontend *frontend, const struct flow *record)
{
	const struct backend *backend = backend_at(frontend, record->index);

	return keeps_flows(backend) && backend->counter == record->counter ? backend : NULL;
}

static __always_inline void refresh(struct flow *record, const struct asked *asked)
{
	if (!(asked->traits & READS_ONLY) && ns_since(record->seen_ns) > SEEN_EVERY_NS)
		record->seen_ns = now_ns();
}

// The index that a flow's record decides for; NO_INDEX if it does not.
static __always_inline __u32 decided(const struct frontend *frontend, struct flow *record, const struct asked *asked)
{
	const struct backend *backend = backend_of(frontend, record);

	// A client that uses a port again is new: it is no business of a backend that drains.
	if (!backend || ((asked->traits & IS_FIRST) && backend->state != ACTIVE))
		return NO_INDEX;
	refresh(record, asked);
	return record->index;
}

static __always_inline void remember(const struct frontend *frontend, const struct flow_key *key,
				     const struct asked *asked, __u32 index)
{
	const struct backend *backend = backend_at(frontend, index);
	struct flow flow = { .index = index };

	if (!backend || !(asked->traits & MAKES_RECORDS) || (asked->traits & READS_ONLY))
		return;
	flow.counter = backend->counter;
	flow.seen_ns = now_ns();
	if (!bpf_map_update_elem(&flows, key, &flow, BPF_ANY))
		count(frontend->service, KEPT_FLOWS);
}

// Where a flow goes that has no record: while the window is open, a packet that is not a client's first belongs to a
// connection that the previous ring has placed.
static __always_inline __u32 index_without_record(const struct frontend *frontend, const struct asked *asked)
{
	__u32 previous;

	if (!(frontend->flags & WINDOW_OPEN) || (asked->traits & IS_FIRST))
		return asked->index;
	previous = previous_index(frontend, asked->hash);
	return keeps_flows(backend_at(frontend, previous)) ? previous : asked->index;
}

// The index of the backend that a flow stays with in a slot that may have changed.
static __noinline __u32 kept_index(const struct frontend *frontend, const struct asked *asked)
{
	const __u32 previous = previous_index(frontend, asked->hash);
	const int is_changed = previous != NO_INDEX && previous != asked->index;
	struct flow *record;
	__u32 index;

	if (!is_changed && !(frontend->flags & RECORDS_ANYWHERE))
		return asked->index;
	record = bpf_map_lookup_elem(&flows, &asked->key);
	index = record ? decided(frontend, record, asked) : NO_INDEX;
	if (index != NO_INDEX)
		return index;
	index = index_without_record(frontend, asked);
	// After the window a flow without a record is the current ring's, and needs none; nor does one on which the rings
	// agree. A record that decides no more is replaced: the packets behind a SYN that left a backend go after it.
	if (record || (is_changed && (frontend->flags & WINDOW_OPEN)))
		remember(frontend, &asked->key, asked, index);
	return index;
}

#endif
