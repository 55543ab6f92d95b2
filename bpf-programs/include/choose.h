// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The backend of any flow: of clients that stay with theirs, of services that take one at random, of changed slots.
#ifndef NETD_CHOOSE_H
#define NETD_CHOOSE_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "clock.h"
#include "flows.h"
#include "hash.h"
#include "maps.h"
#include "ring.h"

// Asks the current ring. With affinity all flows of a client have one hash.
static __always_inline void ask_ring(struct asked *asked, const struct frontend *frontend, int is_v6)
{
	const struct ports ports = {
		.source = frontend->flags & AFFINITY ? 0 : asked->key.source_port,
		.destination = asked->key.destination_port,
	};
	const __u32 *const client = (const __u32 *)asked->key.source;

	asked->hash = is_v6 ? flow_hash_v6(client, &ports, asked->key.protocol, frontend->flow_seed)
			    : flow_hash_v4(client[3], &ports, asked->key.protocol, frontend->flow_seed);
	asked->index = ring_index(frontend, asked->hash);
}

static __always_inline __u32 index_of_new_flow(const struct frontend *frontend, const struct asked *asked)
{
	if ((frontend->flags & RANDOM) && (asked->traits & TAKES_ANY_SLOT))
		return ring_index(frontend, bpf_get_prandom_u32());
	return index_without_record(frontend, asked);
}

static __always_inline __u32 recorded_index(const struct frontend *frontend, const struct asked *asked)
{
	struct flow *record = bpf_map_lookup_elem(&flows, &asked->key);

	return record ? decided(frontend, record, asked) : NO_INDEX;
}

static __always_inline __u32 random_index(const struct frontend *frontend, const struct asked *asked)
{
	__u32 index = recorded_index(frontend, asked);

	if (index != NO_INDEX)
		return index;
	index = index_of_new_flow(frontend, asked);
	remember(frontend, &asked->key, asked, index);
	return index;
}

static __always_inline int is_young(const struct frontend *frontend, const struct flow *record)
{
	return ns_since(record->seen_ns) < frontend->affinity_seconds * NS_PER_SECOND;
}

// The client's record where there is one that counts: the backend keeps flows, and it is not too old.
static __always_inline struct flow *record_of_client(const struct frontend *frontend, const struct flow_key *client)
{
	struct flow *record = bpf_map_lookup_elem(&flows, client);

	return record && is_young(frontend, record) && backend_of(frontend, record) ? record : NULL;
}

// The flow's own record comes before the client's: it has one because it began while the client's backend drained, or
// before the service knew clients. Nearly all have none, and while no slot changes none is looked for.
static __always_inline __u32 client_index(const struct frontend *frontend, const struct asked *asked)
{
	struct flow_key key __attribute__((aligned(8))) = asked->key;
	__u32 index = NO_INDEX;
	struct flow *client;
	struct flow *own = NULL;

	key.source_port = 0;
	client = record_of_client(frontend, &key);
	if (frontend->flags & (KEEP_FLOWS | RANDOM)) {
		own = bpf_map_lookup_elem(&flows, &asked->key);
		index = own ? decided(frontend, own, asked) : NO_INDEX;
	}
	if (index != NO_INDEX) {
		if (!client)
			remember(frontend, &key, asked, index);
		return index;
	}
	if (!client) {
		index = index_of_new_flow(frontend, asked);
		remember(frontend, &key, asked, index);
	} else {
		index = decided(frontend, client, asked);
	}
	if (index == NO_INDEX)
		// The client's backend drains: its connections stay there, new ones go where the ring says.
		index = asked->index;
	else if (!own)
		return index;
	remember(frontend, &asked->key, asked, index);
	return index;
}

// NO_INDEX, or an index that no backend has, if the service has no backend for the flow. What is asked is copied: up to
// Linux 6.1 a key has to lie on the stack, in the packet or in a map.
__noinline __u32 choose(const struct frontend *frontend, const struct asked *question)
{
	struct asked asked __attribute__((aligned(8)));

	if (!frontend || !question)
		return NO_INDEX;
	asked = *question;
	if (frontend->flags & AFFINITY)
		return client_index(frontend, &asked);
	if (frontend->flags & RANDOM)
		return random_index(frontend, &asked);
	return kept_index(frontend, &asked);
}

#endif
