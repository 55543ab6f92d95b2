// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Taking a packet apart, whatever it looks like: tags, options, extension headers, fragments, lengths that lie.
#ifndef NETD_PACKET_H
#define NETD_PACKET_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "flows.h"
#include "parse.h"

#define TAG_BYTES 4
#define EXTENSIONS_MAX 8
#define EXTENSION_BYTES_MAX 2048
// Where a header can begin at most, rounded up to a mask: a tag, IPv6, and extension headers are before it.
#define OFFSET_MASK 0xfff

#define AH 51

enum fragment_kind { WHOLE, FIRST, LATER };

// What is wrong with a packet.
#define LIES 1
#define SHORT 2
#define CUT_CHAIN 4

struct packet {
	// What it asks for. The key has its addresses, and its ports where they are known.
	struct asked asked;
	// IPv6: version, traffic class and flow label, in network order.
	__u32 first_word;
	// The IP packet, as its header says.
	__u32 ip_bytes;
	__u32 fragment_id;
	// Offsets in the frame: the IP header, and what follows it and its extension headers.
	__u16 l3;
	__u16 l4;
	// Offsets of what becomes the backend's port, and of the checksum over it; zero: nothing does.
	__u16 port_at;
	__u16 checksum_at;
	// IPv6: where in the packet stands what is at l4.
	__u16 named_at;
	// IPv4, in network order.
	__be16 id;
	__be16 df;
	__u8 is_v6;
	__u8 tos;
	// What is at l4; with a type where that is ICMP.
	__u8 protocol;
	__u8 type;
	__u8 kind;
	// A fragment's: the second eight bytes of what was sent.
	__u8 is_second;
	__u8 wrong;
	__u8 has_ports;
	// IPv4 options or IPv6 extension headers.
	__u8 has_extras;
	__u8 is_for_many;
	__u8 zero[4];
} __attribute__((aligned(8)));

_Static_assert(sizeof(struct packet) == 96, "no padding: all of it is handed from function to function");

static __always_inline void *at(const struct xdp_md *ctx, __u32 offset)
{
	return frame(ctx) + (offset & OFFSET_MASK);
}

static __always_inline int is_icmp(const struct packet *packet)
{
	return packet->protocol == (packet->is_v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
}

static __always_inline const struct ports *ports_of(const struct packet *packet)
{
	return (const struct ports *)&packet->asked.key.source_port;
}

// Ports, flags, type: of what is no later fragment. The frame has them or not, whatever the lengths say.
static __always_inline void read_l4(const struct xdp_md *ctx, struct packet *packet)
{
	const __u8 *const l4 = at(ctx, packet->l4);
	const void *const end = frame_end(ctx);
	const __u32 bytes = packet->ip_bytes - (packet->l4 - packet->l3);

	if (is_tcp_or_udp(packet->protocol)) {
		if (packet->ip_bytes < (__u32)(packet->l4 - packet->l3) || bytes < l4_header_bytes(packet->protocol))
			packet->wrong |= SHORT;
		if ((const void *)(l4 + sizeof(struct ports)) > end)
			return;
		*(__u32 *)&packet->asked.key.source_port = *(const __u32 *)l4;
		packet->has_ports = 1;
		packet->port_at = packet->l4 + 2;
		packet->checksum_at = packet->l4 + 6;
		packet->asked.traits = traits_of_udp();
		if (packet->protocol == IPPROTO_TCP) {
			packet->checksum_at = packet->l4 + 16;
			packet->asked.traits = 0;
			if ((const void *)(l4 + TCP_FLAGS_AT + 1) <= end)
				packet->asked.traits = traits_of_tcp(l4[TCP_FLAGS_AT]);
		}
	} else if ((const void *)(l4 + 1) <= end) {
		packet->type = l4[0];
	}
}

static __always_inline int parse_v4(const struct xdp_md *ctx, struct packet *packet)
{
	const struct iphdr *const ip = at(ctx, packet->l3);
	__u32 *const source = (__u32 *)packet->asked.key.source;
	__u32 *const destination = (__u32 *)packet->asked.key.destination;
	__u32 header_bytes;

	if ((const void *)(ip + 1) > frame_end(ctx) || ip->version != 4)
		return 0;
	header_bytes = ip->ihl * 4;
	if (header_bytes < sizeof(*ip) || (const void *)ip + header_bytes > frame_end(ctx))
		return 0;
	source[2] = destination[2] = bpf_htonl(0xffff);
	source[3] = ip->saddr;
	destination[3] = ip->daddr;
	packet->asked.key.protocol = packet->protocol = ip->protocol;
	packet->l4 = packet->l3 + header_bytes;
	packet->ip_bytes = length_of(ip->tot_len);
	packet->tos = ip->tos;
	packet->id = ip->id;
	packet->fragment_id = ip->id;
	packet->df = ip->frag_off & IPV4_DF;
	packet->has_extras = header_bytes != sizeof(*ip);
	if (ip->frag_off & IPV4_OFFSET)
		packet->kind = LATER;
	else if (ip->frag_off & IPV4_MF)
		packet->kind = FIRST;
	packet->is_second = (ip->frag_off & IPV4_OFFSET) == bpf_htons(1);
	if (packet->ip_bytes < header_bytes || (const void *)ip + packet->ip_bytes > frame_end(ctx) || !ip->ttl)
		packet->wrong |= LIES;
	return 1;
}

// One extension header: how long it is; zero where the chain ends here.
static __always_inline __u32 step(const struct xdp_md *ctx, struct packet *packet, __u32 offset, __u32 left)
{
	const __u8 *const header = at(ctx, offset);
	__u32 bytes;

	if (left < 8 || (const void *)(header + 8) > frame_end(ctx)) {
		packet->wrong |= CUT_CHAIN;
		return 0;
	}
	bytes = packet->protocol == AH ? (header[1] + 2) * 4 : (header[1] + 1) * 8;
	if (packet->protocol == IPPROTO_FRAGMENT)
		bytes = 8;
	if (packet->protocol == IPPROTO_ROUTING && header[3])
		return 0;
	if (offset - packet->l3 - sizeof(struct ipv6hdr) + bytes > EXTENSION_BYTES_MAX)
		return 0;
	if (bytes > left) {
		packet->wrong |= CUT_CHAIN;
		return 0;
	}
	if (packet->protocol == IPPROTO_FRAGMENT) {
		const __be16 where = *(const __be16 *)(header + 2);

		packet->fragment_id = *(const __u32 *)(header + 4);
		packet->is_second = (where & bpf_htons(0xfff8)) == bpf_htons(8);
		if (where & bpf_htons(0xfff8))
			packet->kind = LATER;
		else if (where & bpf_htons(1))
			packet->kind = FIRST;
	}
	packet->protocol = header[0];
	packet->named_at = offset - packet->l3;
	return bytes;
}

static __always_inline int is_extension(__u8 protocol)
{
	return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING || protocol == IPPROTO_FRAGMENT ||
	       protocol == IPPROTO_DSTOPTS || protocol == AH;
}

// Goes to the first header that is no extension, or that cannot be gone beyond. Behind the header of a real fragment
// nothing is an extension.
static __always_inline void walk(const struct xdp_md *ctx, struct packet *packet)
{
	__u32 offset = packet->l3 + sizeof(struct ipv6hdr);

#pragma clang loop unroll(disable)
	for (int headers = 0; headers < EXTENSIONS_MAX; headers++) {
		__u32 bytes;

		if (packet->kind != WHOLE || !is_extension(packet->protocol))
			break;
		packet->has_extras = 1;
		bytes = step(ctx, packet, offset, packet->l3 + packet->ip_bytes - offset);
		if (!bytes)
			break;
		offset = (offset + bytes) & OFFSET_MASK;
	}
	packet->l4 = offset;
	packet->asked.key.protocol = packet->protocol;
}

static __always_inline int parse_v6(const struct xdp_md *ctx, struct packet *packet)
{
	const struct ipv6hdr *const ip = at(ctx, packet->l3);

	if ((const void *)(ip + 1) > frame_end(ctx) || ip->version != 6)
		return 0;
	__builtin_memcpy(packet->asked.key.source, &ip->saddr, 16);
	__builtin_memcpy(packet->asked.key.destination, &ip->daddr, 16);
	packet->is_v6 = 1;
	packet->first_word = *(const __u32 *)ip;
	packet->tos = bpf_ntohl(packet->first_word) >> 20;
	packet->ip_bytes = sizeof(*ip) + length_of(ip->payload_len);
	packet->protocol = ip->nexthdr;
	packet->named_at = offsetof(struct ipv6hdr, nexthdr);
	if ((const void *)(ip + 1) + length_of(ip->payload_len) > frame_end(ctx) || !ip->hop_limit)
		packet->wrong |= LIES;
	walk(ctx, packet);
	return 1;
}

// Zero: no IP packet that is looked at.
__noinline int parse(struct xdp_md *ctx, struct packet *packet)
{
	const struct ethhdr *const eth = frame(ctx);
	__be16 type;

	if (!packet || (const void *)(eth + 1) + TAG_BYTES > frame_end(ctx))
		return 0;
	type = eth->h_proto;
	packet->is_for_many = eth->h_dest[0] & 1;
	packet->l3 = sizeof(*eth);
	if (type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD)) {
		type = *((const __be16 *)(eth + 1) + 1);
		packet->l3 += TAG_BYTES;
	}
	if (type == bpf_htons(ETH_P_IP) ? !parse_v4(ctx, packet)
					: type != bpf_htons(ETH_P_IPV6) || !parse_v6(ctx, packet))
		return 0;
	if (packet->kind != LATER)
		read_l4(ctx, packet);
	return 1;
}

#endif
