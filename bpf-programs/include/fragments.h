// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Later fragments have no ports: those of the first one are kept for them.
#ifndef NETD_FRAGMENTS_H
#define NETD_FRAGMENTS_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "clock.h"
#include "maps.h"
#include "packet.h"

// No later fragment is waited for longer by any receiver that matters: Linux takes 30 seconds.
#define FRAGMENT_NS (30 * NS_PER_SECOND)

static __always_inline struct fragment_key fragment_key_of(const struct packet *packet)
{
	struct fragment_key key = { .id = packet->fragment_id, .protocol = packet->protocol };

	__builtin_memcpy(key.source, packet->asked.key.source, sizeof(key.source));
	__builtin_memcpy(key.destination, packet->asked.key.destination, sizeof(key.destination));
	return key;
}

static __noinline void note_first(const struct packet *packet)
{
	const struct fragment_key key __attribute__((aligned(8))) = fragment_key_of(packet);
	const struct fragment fragment = {
		.source_port = packet->asked.key.source_port,
		.destination_port = packet->asked.key.destination_port,
		.seen_ns = now_ns(),
	};

	bpf_map_update_elem(&fragments, &key, &fragment, BPF_ANY);
}

// Zero: the first fragment was not seen, or too long ago.
static __noinline int read_ports_of_first(struct packet *packet)
{
	const struct fragment_key key __attribute__((aligned(8))) = fragment_key_of(packet);
	const struct fragment *fragment = bpf_map_lookup_elem(&fragments, &key);

	if (!fragment || ns_since(fragment->seen_ns) > FRAGMENT_NS)
		return 0;
	packet->asked.key.source_port = fragment->source_port;
	packet->asked.key.destination_port = fragment->destination_port;
	packet->asked.traits = READS_ONLY;
	return 1;
}

#endif
