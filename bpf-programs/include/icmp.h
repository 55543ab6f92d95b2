// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// ICMP errors about a flow go to the backend that has it: the packet that they quote is the backend's.
#ifndef NETD_ICMP_H
#define NETD_ICMP_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "choose.h"
#include "forward.h"
#include "limits.h"
#include "packet.h"
#include "sources.h"

static __always_inline int is_icmp_error(const struct packet *packet)
{
	if (packet->is_v6)
		return packet->type >= ICMPV6_DEST_UNREACH && packet->type <= ICMPV6_PARAMPROB;
	return packet->type == ICMP_DEST_UNREACH || packet->type == ICMP_TIME_EXCEEDED ||
	       packet->type == ICMP_PARAMETERPROB;
}

// Where the quoted ports are; zero if the message does not hold what it has to. The key becomes that of the flow,
// which is the quoted packet's turned around.
static __always_inline __u32 read_quoted_v4(const struct xdp_md *ctx, struct flow_key *key, __u32 offset, __u32 left)
{
	const struct iphdr *const ip = at(ctx, offset);
	__u32 header_bytes;

	if (left < sizeof(*ip) || (const void *)(ip + 1) > frame_end(ctx) || ip->version != 4)
		return 0;
	header_bytes = ip->ihl * 4;
	if (header_bytes < sizeof(*ip) || left < header_bytes + sizeof(struct ports) ||
	    (ip->frag_off & IPV4_OFFSET) || ip->saddr != ((const __u32 *)key->destination)[3])
		return 0;
	((__u32 *)key->source)[3] = ip->daddr;
	key->protocol = ip->protocol;
	return offset + header_bytes;
}

static __always_inline __u32 read_quoted_v6(const struct xdp_md *ctx, struct flow_key *key, __u32 offset, __u32 left)
{
	const struct ipv6hdr *const ip = at(ctx, offset);
	const __u32 *const vip = (const __u32 *)key->destination;
	const __u8 *const fragment = (const __u8 *)(ip + 1);
	const __u32 *source;
	__u32 header_bytes = sizeof(*ip);

	if (left < sizeof(*ip) || (const void *)(ip + 1) > frame_end(ctx) || ip->version != 6)
		return 0;
	source = (const __u32 *)&ip->saddr;
	if (source[0] != vip[0] || source[1] != vip[1] || source[2] != vip[2] || source[3] != vip[3])
		return 0;
	key->protocol = ip->nexthdr;
	if (ip->nexthdr == IPPROTO_FRAGMENT) {
		header_bytes += 8;
		if (left < header_bytes || (const void *)(fragment + 8) > frame_end(ctx) ||
		    (*(const __be16 *)(fragment + 2) & bpf_htons(0xfff8)))
			return 0;
		key->protocol = fragment[0];
	}
	if (left < header_bytes + sizeof(struct ports))
		return 0;
	__builtin_memcpy(key->source, &ip->daddr, sizeof(key->source));
	return offset + header_bytes;
}

// Turns the packet into one of the flow that its message is about. Zero: it is about no flow.
__noinline int read_quoted(struct xdp_md *ctx, struct packet *packet)
{
	const struct ports *ports;
	struct flow_key *key;
	__u32 message, offset, left;

	if (!packet)
		return 0;
	key = &packet->asked.key;
	message = packet->ip_bytes - (packet->l4 - packet->l3);
	if (packet->ip_bytes < (__u32)(packet->l4 - packet->l3) || message < ICMP_BYTES)
		return 0;
	offset = packet->l4 + ICMP_BYTES;
	left = message - ICMP_BYTES;
	offset = packet->is_v6 ? read_quoted_v6(ctx, key, offset, left) : read_quoted_v4(ctx, key, offset, left);
	ports = at(ctx, offset);
	if (!offset || (const void *)(ports + 1) > frame_end(ctx) || !is_tcp_or_udp(key->protocol))
		return 0;
	key->source_port = ports->destination;
	key->destination_port = ports->source;
	packet->port_at = offset;
	packet->checksum_at = packet->l4 + offsetof(struct icmp_header, checksum);
	packet->asked.traits = READS_ONLY;
	return 1;
}

static __always_inline int relay(struct xdp_md *ctx, struct packet *packet, const struct frontend *frontend)
{
	if (!is_within(RELAYED))
		return dropped(frontend->service, RATE_LIMITED);
	ask_ring(&packet->asked, frontend, packet->is_v6);
	return forward(ctx, packet, frontend, choose(frontend, &packet->asked));
}

#endif
