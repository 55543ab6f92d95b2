// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// What is remembered besides mappings: first fragments, and flows to pods' own addresses. Sections 5 and 2 of docs/nat.md.
#ifndef NETD_NAT_RECORDS_H
#define NETD_NAT_RECORDS_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "clock.h"
#include "nat_maps.h"
#include "nat_mappings.h"
#include "nat_packet.h"

// No receiver that matters waits for fragments for longer.
#define FRAGMENT_NS (30 * NS_PER_SECOND)

static __always_inline struct nat_fragment_key fragment_key(const struct nat_packet *packet)
{
	struct nat_fragment_key key = {
		.id = packet->fragment_id,
		.protocol = packet->is_v6 ? 0 : packet->protocol,
	};

	__builtin_memcpy(key.source, packet->source, 16);
	__builtin_memcpy(key.destination, packet->destination, 16);
	return key;
}

// Later fragments of this one's packet are given this address.
static __noinline int note_fragment(const struct nat_packet *packet, const __u8 *address)
{
	const struct nat_fragment_key key = fragment_key(packet);
	struct nat_fragment fragment = { .seen_ns = now_ns() };

	if (packet->fragment != FIRST)
		return 0;
	__builtin_memcpy(fragment.address, address, 16);
	return bpf_map_update_elem(&nat_fragments, &key, &fragment, BPF_ANY);
}

// What an earlier first fragment with the same identification left is not for this one's packet.
static __noinline int forget_fragment(const struct nat_packet *packet)
{
	const struct nat_fragment_key key = fragment_key(packet);

	return bpf_map_delete_elem(&nat_fragments, &key);
}

static __always_inline const struct nat_fragment *first_fragment(const struct nat_packet *packet)
{
	const struct nat_fragment_key key = fragment_key(packet);
	const struct nat_fragment *const found = bpf_map_lookup_elem(&nat_fragments, &key);

	return found && ns_since(found->seen_ns) <= FRAGMENT_NS ? found : NULL;
}

// When a flow of TCP or UDP that is direct was last seen.
static __always_inline __u64 *direct_seen(const struct nat_flow *flow)
{
	__u64 *const seen_ns = bpf_map_lookup_elem(&direct, flow);
	const __u64 lives = flow->protocol == IPPROTO_TCP ? TCP_LIVES : UDP_LIVES;

	return seen_ns && ns_since(*seen_ns) <= lives * NS_PER_SECOND ? seen_ns : NULL;
}

// Whether a flow is recorded as direct; then it was seen just now.
static __always_inline int saw_direct(const struct nat_flow *flow)
{
	__u64 *const seen_ns = direct_seen(flow);

	if (seen_ns && ns_since(*seen_ns) > SEEN_EVERY_NS)
		*seen_ns = now_ns();
	return seen_ns != NULL;
}

static __always_inline void record_direct(const struct nat_flow *flow)
{
	const __u64 now = now_ns();

	if (!saw_direct(flow) && !bpf_map_update_elem(&direct, flow, &now, BPF_ANY))
		COUNT(direct);
}

#endif
