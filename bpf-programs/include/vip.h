// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// What is for a VIP and for no frontend of it: fragments, ICMP, ports that no service has.
#ifndef NETD_VIP_H
#define NETD_VIP_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "choose.h"
#include "counters.h"
#include "forward.h"
#include "fragments.h"
#include "icmp.h"
#include "lookup.h"
#include "packet.h"
#include "reply.h"
#include "sources.h"

// What the VIP's entry says, or that of its pool.
struct vip {
	__u32 flags;
	__u32 service;
};

// Zero: the address is no VIP.
static __always_inline int find_vip(const struct flow_key *key, int is_v6, struct vip *vip)
{
	const struct frontend *const entry = frontend_at(key->destination, 0, 0, is_v6);

	if (entry) {
		*vip = (struct vip){ .flags = entry->flags, .service = entry->service };
		return 1;
	}
	if (settings.has_pools) {
		struct pool_key pool_key = { .bits = 8 * sizeof(pool_key.address) };
		const struct pool *pool;

		__builtin_memcpy(pool_key.address, key->destination, sizeof(pool_key.address));
		pool = bpf_map_lookup_elem(&pools, &pool_key);
		if (pool) {
			*vip = (struct vip){ .flags = pool->flags & ~PING, .service = pool->service };
			return 1;
		}
	}
	return 0;
}

static __always_inline int passed(const struct vip *vip)
{
	count(vip->service, PASSED);
	return XDP_PASS;
}

static __always_inline int lets_pass(const struct vip *vip)
{
	return !(vip->flags & (UNKNOWN_DROP | UNKNOWN_REJECT));
}

static __always_inline int drop_or_pass(const struct vip *vip, enum event reason)
{
	return lets_pass(vip) ? passed(vip) : dropped(vip->service, reason);
}

__noinline int unknown(struct xdp_md *ctx, struct packet *packet, const struct vip *vip)
{
	if (!packet || !vip)
		return XDP_ABORTED;
	if (lets_pass(vip))
		return passed(vip);
	count(vip->service, UNKNOWN_PORT);
	return vip->flags & UNKNOWN_REJECT ? reject(ctx, packet, vip->service) : XDP_DROP;
}

// Neighbour discovery and multicast listeners: the kernel's, or nothing would be reached here.
static __always_inline int is_for_the_neighbours(const struct packet *packet)
{
	return packet->is_v6 && packet->kind == WHOLE && is_icmp(packet) &&
	       ((packet->type >= 130 && packet->type <= 137) || packet->type == 143);
}

static __always_inline int is_ping(const struct xdp_md *ctx, const struct packet *packet)
{
	const __u8 *const icmp = at(ctx, packet->l4);

	if (packet->has_extras || packet->is_for_many ||
	    packet->ip_bytes < (__u32)(packet->l4 - packet->l3) + ICMP_BYTES ||
	    (const void *)(icmp + 2) > frame_end(ctx))
		return 0;
	return packet->type == (packet->is_v6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO) && !icmp[1];
}

__noinline int icmp(struct xdp_md *ctx, struct packet *packet, const struct vip *vip)
{
	const struct frontend *frontend;
	const struct flow_key *key;

	if (!packet || !vip)
		return XDP_ABORTED;
	key = &packet->asked.key;
	if ((vip->flags & PING) && is_ping(ctx, packet))
		return echo(ctx, packet, vip->service);
	if (is_icmp_error(packet) && read_quoted(ctx, packet)) {
		frontend = frontend_at(key->destination, key->destination_port, key->protocol, packet->is_v6);
		if (frontend)
			return relay(ctx, packet, frontend);
	}
	return unknown(ctx, packet, vip);
}

__noinline int later_fragment(struct xdp_md *ctx, struct packet *packet, const struct vip *vip)
{
	const struct frontend *frontend;
	const struct flow_key *key;

	if (!packet || !vip)
		return XDP_ABORTED;
	key = &packet->asked.key;
	// It could put other ports and flags over those that were looked at (RFC 3128).
	if (packet->protocol == IPPROTO_TCP && packet->is_second)
		return drop_or_pass(vip, MALFORMED);
	if (!read_ports_of_first(packet))
		return drop_or_pass(vip, FRAGMENT_LOST);
	frontend = frontend_at(key->destination, key->destination_port, key->protocol, packet->is_v6);
	if (!frontend)
		return drop_or_pass(vip, FRAGMENT_LOST);
	ask_ring(&packet->asked, frontend, packet->is_v6);
	return forward(ctx, packet, frontend, choose(frontend, &packet->asked));
}

// A packet of a frontend, whole or the first fragment of one.
__noinline int balance(struct xdp_md *ctx, struct packet *packet, const struct frontend *frontend)
{
	if (!packet || !frontend)
		return XDP_ABORTED;
	if (packet->wrong & (LIES | SHORT))
		return dropped(frontend->service, MALFORMED);
	if (has_martian_address(packet) || is_from_a_service(packet))
		return dropped(frontend->service, MARTIAN);
	if ((frontend->flags & SOURCES) && is_refused(frontend, (const __u32 *)packet->asked.key.source))
		return dropped(frontend->service, SOURCE_REFUSED);
	ask_ring(&packet->asked, frontend, packet->is_v6);
	return forward(ctx, packet, frontend, choose(frontend, &packet->asked));
}

// Lengths and sources of what is not known to be for a frontend. What an extension chain hides is looked at later.
static __always_inline int is_wrong(const struct packet *packet)
{
	const int is_behind_others = packet->is_v6 && packet->has_extras;

	return (packet->wrong & LIES) || ((packet->wrong & SHORT) && packet->kind == WHOLE && !is_behind_others);
}

// Section 7 of docs/datapath.md, in its order; `frontend` is that of the ports, if they are known and have one.
static __always_inline int at_vip(struct xdp_md *ctx, struct packet *packet, const struct vip *vip,
				  const struct frontend *frontend)
{
	if (is_for_the_neighbours(packet) && !packet->has_extras)
		return XDP_PASS;
	if (is_wrong(packet))
		return drop_or_pass(vip, MALFORMED);
	if (has_martian_address(packet))
		return dropped(vip->service, MARTIAN);
	if (packet->wrong & CUT_CHAIN)
		return drop_or_pass(vip, MALFORMED);
	if (is_for_the_neighbours(packet))
		return XDP_PASS;
	if (frontend && packet->kind == WHOLE)
		return balance(ctx, packet, frontend);
	if (packet->wrong & SHORT)
		return drop_or_pass(vip, MALFORMED);
	if (packet->kind == WHOLE && is_from_a_service(packet))
		return dropped(vip->service, MARTIAN);
	if (packet->kind == LATER && is_tcp_or_udp(packet->protocol))
		return later_fragment(ctx, packet, vip);
	if (frontend)
		return balance(ctx, packet, frontend);
	if (packet->kind == WHOLE && is_icmp(packet))
		return icmp(ctx, packet, vip);
	return unknown(ctx, packet, vip);
}

// Every packet that the short way does not take.
__noinline int long_way(struct xdp_md *ctx)
{
	struct packet packet = {};
	const struct flow_key *const key = &packet.asked.key;
	const struct frontend *frontend = NULL;
	struct vip vip = {};

	if (!parse(ctx, &packet))
		return XDP_PASS;
	if (packet.has_ports)
		frontend = frontend_at(key->destination, key->destination_port, key->protocol, packet.is_v6);
	if (frontend && packet.kind == WHOLE && !(packet.is_v6 && packet.has_extras))
		return balance(ctx, &packet, frontend);
	if (!find_vip(key, packet.is_v6, &vip))
		return XDP_PASS;
	return at_vip(ctx, &packet, &vip, frontend);
}

#endif
