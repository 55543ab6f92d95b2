// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Reading a packet, and the packet that an ICMP error quotes: section 1 of docs/nat.md.
#ifndef NETD_NAT_PACKET_H
#define NETD_NAT_PACKET_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "parse.h"

#define HEADERS_MAX 8

enum nat_fragment_kind { WHOLE, FIRST, LATER };

enum nat_what { NOTHING_READ, TCP_SEGMENT, UDP_PACKET, ECHO_REQUEST, ECHO_REPLY, ICMP_ERROR, UNSUPPORTED, UNREADABLE };

struct nat_packet {
	__u8 source[16];
	__u8 destination[16];
	// An echo's identifier is both.
	__be16 source_port;
	__be16 destination_port;
	__u32 fragment_id;
	// Offsets in the frame.
	__u32 l3;
	__u32 l4;
	__u8 is_v6;
	__u8 protocol;
	__u8 fragment;
	__u8 what;
	__u8 tcp_flags;
	__u8 zero[3];
};

struct extension_header {
	__u8 next;
	__u8 words;
	__be16 where;
	__u32 id;
};

static __always_inline void map_v4(__u8 to[16], __be32 address)
{
	__u32 *const words = (__u32 *)to;

	words[0] = words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = address;
}

static __always_inline int is_same(const void *a, const void *b)
{
	const __u64 *const left = a, *const right = b;

	return left[0] == right[0] && left[1] == right[1];
}

static __always_inline int is_echo(const struct nat_packet *packet)
{
	return packet->what == ECHO_REQUEST || packet->what == ECHO_REPLY;
}

// SYN without ACK.
static __always_inline int begins_flow(const struct nat_packet *packet)
{
	return packet->what == TCP_SEGMENT && is_first_of_tcp(packet->tcp_flags);
}

static __always_inline int read_v4(struct __sk_buff *skb, struct nat_packet *packet)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, packet->l3, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return 0;
	packet->l4 = packet->l3 + ip.ihl * 4;
	if (packet->l4 > skb->len)
		return 0;
	map_v4(packet->source, ip.saddr);
	map_v4(packet->destination, ip.daddr);
	packet->protocol = ip.protocol;
	packet->fragment_id = ip.id;
	if (ip.frag_off & IPV4_OFFSET)
		packet->fragment = LATER;
	else if (ip.frag_off & IPV4_MF)
		packet->fragment = FIRST;
	return 1;
}

static __always_inline int is_skipped(__u8 protocol)
{
	return protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING || protocol == IPPROTO_FRAGMENT ||
	       protocol == IPPROTO_DSTOPTS;
}

// Zero: the chain ends here.
static __always_inline int skip_header(struct __sk_buff *skb, struct nat_packet *packet)
{
	struct extension_header header;
	__u32 bytes;

	if (bpf_skb_load_bytes(skb, packet->l4, &header, sizeof(header))) {
		packet->what = UNREADABLE;
		return 0;
	}
	// The fourth byte is the number of segments left.
	if (packet->protocol == IPPROTO_ROUTING && (header.where & bpf_htons(0x00ff)))
		return 0;
	bytes = (header.words + 1) * 8;
	if (packet->protocol == IPPROTO_FRAGMENT) {
		bytes = sizeof(header);
		packet->fragment_id = header.id;
		if (header.where & bpf_htons(0xfff8))
			packet->fragment = LATER;
		else if (header.where & bpf_htons(1))
			packet->fragment = FIRST;
	}
	packet->protocol = header.next;
	packet->l4 += bytes;
	if (packet->l4 > skb->len)
		packet->what = UNREADABLE;
	return packet->fragment == WHOLE && packet->what != UNREADABLE;
}

static __always_inline int read_v6(struct __sk_buff *skb, struct nat_packet *packet)
{
	struct ipv6hdr ip;
	int headers = 0;

	if (bpf_skb_load_bytes(skb, packet->l3, &ip, sizeof(ip)) || ip.version != 6)
		return 0;
	__builtin_memcpy(packet->source, &ip.saddr, 16);
	__builtin_memcpy(packet->destination, &ip.daddr, 16);
	packet->is_v6 = 1;
	packet->protocol = ip.nexthdr;
	packet->l4 = packet->l3 + sizeof(ip);
#pragma clang loop unroll(disable)
	while (is_skipped(packet->protocol)) {
		if (headers++ == HEADERS_MAX) {
			packet->what = UNREADABLE;
			break;
		}
		if (!skip_header(skb, packet))
			break;
	}
	return 1;
}

static __always_inline void read_icmp(struct nat_packet *packet, __u8 type)
{
	if (type == (packet->is_v6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO))
		packet->what = ECHO_REQUEST;
	else if (type == (packet->is_v6 ? ICMPV6_ECHO_REPLY : ICMP_ECHOREPLY))
		packet->what = ECHO_REPLY;
	else if (packet->is_v6 ? type >= ICMPV6_DEST_UNREACH && type <= ICMPV6_PARAMPROB
			       : type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED ||
					 type == ICMP_PARAMETERPROB)
		packet->what = ICMP_ERROR;
}

// What is at l4, of which a quoted packet need not have more than eight bytes.
static __always_inline void read_transport(struct __sk_buff *skb, struct nat_packet *packet, __u32 tcp_bytes)
{
	const __u8 icmp = packet->is_v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
	__u8 begin[8];

	packet->what = UNSUPPORTED;
	if (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP && packet->protocol != icmp)
		return;
	if (bpf_skb_load_bytes(skb, packet->l4, begin, sizeof(begin)) ||
	    (packet->protocol == IPPROTO_TCP && packet->l4 + tcp_bytes > skb->len)) {
		packet->what = UNREADABLE;
		return;
	}
	if (packet->protocol == icmp) {
		read_icmp(packet, begin[0]);
		packet->source_port = packet->destination_port = *(__be16 *)(begin + 4);
		return;
	}
	packet->what = packet->protocol == IPPROTO_TCP ? TCP_SEGMENT : UDP_PACKET;
	packet->source_port = *(__be16 *)begin;
	packet->destination_port = *(__be16 *)(begin + 2);
	if (packet->what == TCP_SEGMENT && tcp_bytes > sizeof(begin))
		bpf_skb_load_bytes(skb, packet->l4 + TCP_FLAGS_AT, &packet->tcp_flags, 1);
}

// Reads the packet whose IP header is at l3; zero: there is none. What is known before is is_v6 of the family.
static __noinline int read_packet(struct __sk_buff *skb, struct nat_packet *packet, __u32 tcp_bytes)
{
	if (packet->is_v6 ? !read_v6(skb, packet) : !read_v4(skb, packet))
		return 0;
	if (packet->fragment != LATER && packet->what != UNREADABLE)
		read_transport(skb, packet, tcp_bytes);
	return 1;
}

// The packet that an error quotes; zero: none that belongs to a flow.
static __always_inline int read_quoted(struct __sk_buff *skb, const struct nat_packet *error,
				       struct nat_packet *quoted)
{
	__builtin_memset(quoted, 0, sizeof(*quoted));
	quoted->l3 = error->l4 + sizeof(struct icmp_header);
	quoted->is_v6 = error->is_v6;
	return read_packet(skb, quoted, 8) && quoted->fragment != LATER &&
	       (quoted->what == TCP_SEGMENT || quoted->what == UDP_PACKET || is_echo(quoted));
}

#endif
