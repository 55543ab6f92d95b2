// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Sending any packet to a backend: outer headers of either family, UDP with GUE, a tag that stays or goes.
#ifndef NETD_FORWARD_H
#define NETD_FORWARD_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "choose.h"
#include "counters.h"
#include "encap.h"
#include "fragments.h"
#include "packet.h"
#include "reply.h"

// The top of the ports that nobody registers; 14 bits of the flow's hash make up the rest.
#define GUE_SOURCE_PORTS 0xc000
#define GUE_HASH_BITS 0x3fff
#define FLOW_LABEL_BITS 0xfffff

// The headers to put before a packet.
struct outer {
	__u32 bytes;
	__u32 is_v6;
	__u32 is_gue;
};

static __always_inline struct outer outer_of(const struct packet *packet, const struct backend *backend)
{
	struct outer outer = {
		.is_v6 = !!packet->is_v6 ^ !!(backend->flags & OTHER_FAMILY),
		.is_gue = !!(backend->flags & GUE),
	};

	outer.bytes = outer.is_v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	if (outer.is_gue)
		outer.bytes += sizeof(struct udphdr);
	return outer;
}

static __always_inline __u8 tunnel_protocol(const struct packet *packet, const struct outer *outer)
{
	if (outer->is_gue)
		return IPPROTO_UDP;
	return packet->is_v6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
}

// The backend's port into the packet, or into what an ICMP error quotes.
static __always_inline int write_port(const struct xdp_md *ctx, const struct packet *packet, __be16 port)
{
	__be16 *const field = at(ctx, packet->port_at);
	__u16 *const checksum = at(ctx, packet->checksum_at);
	__be16 old;

	if (!port || !packet->port_at)
		return 1;
	if ((void *)(field + 1) > frame_end(ctx) || (void *)(checksum + 1) > frame_end(ctx))
		return 0;
	old = *field;
	if (old == port)
		return 1;
	*field = port;
	if (packet->protocol != IPPROTO_UDP)
		*checksum = checksum_after(*checksum, old, port);
	else if (*checksum)
		*checksum = checksum_after(*checksum, old, port) ?: 0xffff;
	return 1;
}

static __always_inline void write_gue(struct udphdr *udp, const struct packet *packet)
{
	udp->source = bpf_htons(GUE_SOURCE_PORTS | (packet->asked.hash & GUE_HASH_BITS));
	udp->dest = settings.gue_port;
	udp->len = bpf_htons(packet->ip_bytes + sizeof(*udp));
	udp->check = 0;
}

static __always_inline void write_around_v4(struct iphdr *ip, const struct packet *packet, const struct backend *backend,
					    const struct outer *outer)
{
	const __u32 *const client = (const __u32 *)packet->asked.key.source;
	// One word hashes them all; of an IPv4 client the others are constant and left out.
	const __u32 hashed = packet->is_v6 ? client[0] ^ client[1] ^ client[2] ^ client[3] : client[3];
	__be32 addresses[2] = { 0, *(const volatile __u32 *)backend->destination };
	__be32 low = 0;

	if (backend->source_bits)
		low = source_bits_of(hashed, ports_of(packet), backend->source_bits);
	addresses[0] = *(const volatile __u32 *)backend->source | low;
	write_header_v4(ip, (__u32)outer_tos(packet->tos) << 16 | (packet->ip_bytes + outer->bytes),
			packet->is_v6 ? (__u32)IPV4_DF << 16 : packet->id | (__u32)packet->df << 16,
			(__u32)settings.hop_limit << 8 | tunnel_protocol(packet, outer), addresses);
}

static __always_inline void write_around_v6(struct ipv6hdr *ip, const struct packet *packet,
					    const struct backend *backend, const struct outer *outer)
{
	const __u32 *const client = (const __u32 *)packet->asked.key.source;
	const __u32 *const prefix = (const __u32 *)backend->source;
	const __u32 label = packet->is_v6 ? bpf_ntohl(packet->first_word) : packet->asked.hash;
	const __u32 hashed[4] = {
		packet->is_v6 ? client[0] : client[3],
		packet->is_v6 ? client[1] : client[3],
		packet->is_v6 ? client[2] : client[3],
		client[3],
	};
	__u32 source[4] = { prefix[0], prefix[1], prefix[2], prefix[3] };

	set_source_bits_v6(source, hashed, ports_of(packet), backend->source_bits);
	*(__u32 *)ip = bpf_htonl(6u << 28 | (__u32)outer_tos(packet->tos) << 20 | (label & FLOW_LABEL_BITS));
	ip->payload_len = bpf_htons(packet->ip_bytes + outer->bytes - sizeof(*ip));
	ip->nexthdr = tunnel_protocol(packet, outer);
	ip->hop_limit = settings.hop_limit;
	__builtin_memcpy(&ip->saddr, source, sizeof(source));
	__builtin_memcpy(&ip->daddr, backend->destination, sizeof(backend->destination));
}

// The Ethernet header, with the tag that the packet came with if it goes back that way; where the outer header begins.
static __always_inline __u32 grow(struct xdp_md *ctx, const struct packet *packet, const struct backend *backend,
				  const struct outer *outer)
{
	const __u32 had = packet->l3;
	const __u32 has = backend->ifindex == ctx->ingress_ifindex ? had : sizeof(struct ethhdr);
	const __u32 grown = outer->bytes + has - had;
	const __be16 type = outer->is_v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	const struct link_header *was;
	struct link_header *link;

	if (bpf_xdp_adjust_head(ctx, -(int)grown))
		return 0;
	link = frame(ctx);
	was = frame(ctx) + (grown & OFFSET_MASK);
	if ((void *)(link + 1) > frame_end(ctx) || (const void *)(was + 1) > frame_end(ctx))
		return 0;
	set_macs((struct ethhdr *)link, backend);
	if (has == sizeof(struct ethhdr)) {
		link->words[0] = type;
		return has;
	}
	link->words[0] = was->words[0];
	link->words[1] = was->words[1];
	link->words[2] = type;
	return has;
}

static __always_inline int encapsulate(struct xdp_md *ctx, const struct packet *packet, const struct backend *backend,
				       const struct outer *outer)
{
	const __u32 offset = grow(ctx, packet, backend, outer);
	void *const ip = at(ctx, offset);
	void *behind;

	if (!offset)
		return 0;
	if (outer->is_v6) {
		behind = ip + sizeof(struct ipv6hdr);
		if (behind > frame_end(ctx))
			return 0;
		write_around_v6(ip, packet, backend, outer);
	} else {
		behind = ip + sizeof(struct iphdr);
		if (behind > frame_end(ctx))
			return 0;
		write_around_v4(ip, packet, backend, outer);
	}
	if (outer->is_gue) {
		if (behind + sizeof(struct udphdr) > frame_end(ctx))
			return 0;
		write_gue(behind, packet);
	}
	return 1;
}

static __always_inline void count_forwarded(const struct packet *packet, const struct frontend *frontend,
					    const struct backend *backend)
{
	count_sent(backend->counter, packet->ip_bytes, packet->asked.traits & IS_FIRST);
	if (is_icmp(packet))
		count(frontend->service, ICMP_RELAYED);
	else if (packet->kind == LATER)
		count(frontend->service, FRAGMENTS);
	else if (packet->kind == FIRST)
		note_first(packet);
}

static __always_inline int without_backend(struct xdp_md *ctx, struct packet *packet, const struct frontend *frontend)
{
	count(frontend->service, NO_BACKEND);
	return frontend->flags & REJECT_NO_BACKEND ? reject(ctx, packet, frontend->service) : XDP_DROP;
}

// From here on it is known which backend the packet is for, if there is one.
__noinline int forward(struct xdp_md *ctx, struct packet *packet, const struct frontend *frontend, __u32 index)
{
	const struct backend *backend;
	struct outer outer;

	if (!packet || !frontend)
		return XDP_ABORTED;
	backend = backend_at(frontend, index);
	if (!backend)
		return without_backend(ctx, packet, frontend);
	if (!(backend->flags & READY))
		return dropped(frontend->service, NO_NEXT_HOP);
	outer = outer_of(packet, backend);
	if (packet->ip_bytes + outer.bytes > backend->mtu)
		return too_big(ctx, packet, frontend->service, backend->mtu - outer.bytes);
	if (!write_port(ctx, packet, backend->port) || !encapsulate(ctx, packet, backend, &outer))
		return dropped(frontend->service, MALFORMED);
	count_forwarded(packet, frontend, backend);
	return send(ctx, backend);
}

// For a packet of the short way whose backend is not.
__noinline int forward_chosen(struct xdp_md *ctx, const struct frontend *frontend, __u32 index, __u32 hash)
{
	struct packet packet = {};

	if (!parse(ctx, &packet))
		return XDP_ABORTED;
	packet.asked.hash = hash;
	return forward(ctx, &packet, frontend, index);
}

#endif
