// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// What the program answers itself: ICMP errors, RSTs, echo replies. They go back the way that the packet came.
#ifndef NETD_REPLY_H
#define NETD_REPLY_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "counters.h"
#include "encap.h"
#include "limits.h"
#include "packet.h"

#define REPLY_HOPS 64
// ICMPv4 quotes eight bytes behind the IP header.
#define QUOTED_L4_BYTES 8
#define QUOTED_V6_MAX 104
#define ICMP_BYTES sizeof(struct icmp_header)
// The longest that is quoted, in pairs of words.
#define QUOTED_PAIRS_MAX 13

// Types and codes.
#define TOO_BIG_V4 bpf_htons(ICMP_DEST_UNREACH << 8 | ICMP_FRAG_NEEDED)
#define TOO_BIG_V6 bpf_htons(ICMPV6_PKT_TOOBIG << 8)
#define NO_PORT_V4 bpf_htons(ICMP_DEST_UNREACH << 8 | ICMP_PORT_UNREACH)
#define NO_PORT_V6 bpf_htons(ICMPV6_DEST_UNREACH << 8 | ICMPV6_PORT_UNREACH)
#define NO_PROTOCOL_V4 bpf_htons(ICMP_DEST_UNREACH << 8 | ICMP_PROT_UNREACH)
#define NO_PROTOCOL_V6 bpf_htons(ICMPV6_PARAMPROB << 8 | ICMPV6_UNK_NEXTHDR)

// An Ethernet header, perhaps with a tag.
struct link_header {
	__u8 destination[6];
	__u8 source[6];
	__be16 words[3];
};

// Addresses from the VIP to the client.
static __always_inline void write_addresses_v4(struct iphdr *ip, const struct packet *packet)
{
	ip->saddr = ((const __u32 *)packet->asked.key.destination)[3];
	ip->daddr = ((const __u32 *)packet->asked.key.source)[3];
}

static __always_inline void write_addresses_v6(struct ipv6hdr *ip, const struct packet *packet)
{
	__builtin_memcpy(&ip->saddr, packet->asked.key.destination, 16);
	__builtin_memcpy(&ip->daddr, packet->asked.key.source, 16);
}

static __always_inline __u64 sum_of(const __u32 *words, __u32 count)
{
	__u64 sum = 0;

#pragma clang loop unroll(full)
	for (__u32 k = 0; k < count; k++)
		sum += words[k];
	return sum;
}

static __always_inline void write_v4(struct iphdr *ip, const struct packet *packet, __u16 bytes, __u8 protocol)
{
	const __be32 addresses[2] = {
		((const __u32 *)packet->asked.key.destination)[3],
		((const __u32 *)packet->asked.key.source)[3],
	};

	write_header_v4(ip, (__u32)packet->tos << 16 | bytes, packet->id | (__u32)IPV4_DF << 16,
			REPLY_HOPS << 8 | protocol, addresses);
}

static __always_inline void write_v6(struct ipv6hdr *ip, const struct packet *packet, __u16 payload, __u8 protocol)
{
	*(__u32 *)ip = packet->first_word;
	ip->payload_len = bpf_htons(payload);
	ip->nexthdr = protocol;
	ip->hop_limit = REPLY_HOPS;
	write_addresses_v6(ip, packet);
}

// The sum, in words, of what checksums over IPv6, TCP and UDP add to what they cover.
static __always_inline __u64 pseudo_sum(const struct packet *packet, __u16 bytes, __u8 protocol)
{
	const __u32 *const source = (const __u32 *)packet->asked.key.source;
	const __u32 *const destination = (const __u32 *)packet->asked.key.destination;
	const __u64 rest = bpf_htons(bytes) + bpf_htons(protocol);

	if (packet->is_v6)
		return rest + sum_of(source, 4) + sum_of(destination, 4);
	return rest + source[3] + destination[3];
}

// The link header with its addresses exchanged, to the frame's beginning from where it was: there, or so far behind
// that the two do not overlap.
static __always_inline int turn_around(const struct xdp_md *ctx, const struct packet *packet, __u32 was_at)
{
	const struct link_header *const was = frame(ctx) + was_at;
	struct link_header *const link = frame(ctx);
	__u32 destination, source;
	__u16 destination_rest, source_rest;

	if ((const void *)(was + 1) > frame_end(ctx))
		return 0;
	destination = *(const __u32 *)was->destination;
	destination_rest = *(const __u16 *)&was->destination[4];
	source = *(const __u32 *)was->source;
	source_rest = *(const __u16 *)&was->source[4];
	*(__u32 *)link->destination = source;
	*(__u16 *)&link->destination[4] = source_rest;
	*(__u32 *)link->source = destination;
	*(__u16 *)&link->source[4] = destination_rest;
	link->words[0] = was->words[0];
	if (packet->l3 != sizeof(struct ethhdr)) {
		link->words[1] = was->words[1];
		link->words[2] = was->words[2];
	}
	return 1;
}

// Moves the frame's beginning by `grown` and its end to `bytes` behind the link header, which is turned around. What
// is behind is the caller's to write.
static __always_inline int reshape(struct xdp_md *ctx, const struct packet *packet, __u32 grown, __u32 bytes)
{
	int cut;

	if (grown && bpf_xdp_adjust_head(ctx, -(int)grown))
		return 0;
	if (!turn_around(ctx, packet, grown))
		return 0;
	cut = (int)(packet->l3 + bytes) - (int)(frame_end(ctx) - frame(ctx));
	return cut == 0 || (cut < 0 && !bpf_xdp_adjust_tail(ctx, cut));
}

// The sum, in words, from an offset to the frame's end, which is a whole number of words away.
static __always_inline __u64 sum_to_end(const struct xdp_md *ctx, __u32 offset)
{
	const __u64 *pair = at(ctx, offset);
	__u64 sum = 0;

#pragma clang loop unroll(disable)
	for (int k = 0; k < QUOTED_PAIRS_MAX; k++) {
		if ((const void *)(pair + 1) > frame_end(ctx))
			break;
		sum += (*pair & 0xffffffff) + (*pair >> 32);
		pair++;
	}
	if ((const void *)pair + sizeof(__u32) <= frame_end(ctx))
		sum += *(const __u32 *)pair;
	return sum;
}

// An ICMP error with a second word, around what it is about.
static __always_inline int write_error(struct xdp_md *ctx, const struct packet *packet, __be16 type_code, __be32 rest)
{
	const __u32 ip_bytes = packet->is_v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	const __u32 longest = packet->is_v6 ? QUOTED_V6_MAX : (packet->l4 - packet->l3) + QUOTED_L4_BYTES;
	const __u32 quoted = packet->ip_bytes < longest ? packet->ip_bytes & ~3u : longest;
	const __u32 message = ICMP_BYTES + quoted;
	struct icmp_header *icmp;
	__u64 sum = type_code + (__u64)rest;
	void *ip;

	if (!reshape(ctx, packet, ip_bytes + ICMP_BYTES, ip_bytes + message))
		return 0;
	ip = at(ctx, packet->l3);
	if (packet->is_v6) {
		if (ip + sizeof(struct ipv6hdr) > frame_end(ctx))
			return 0;
		write_v6(ip, packet, message, IPPROTO_ICMPV6);
		sum += pseudo_sum(packet, message, IPPROTO_ICMPV6);
	} else {
		if (ip + sizeof(struct iphdr) > frame_end(ctx))
			return 0;
		write_v4(ip, packet, sizeof(struct iphdr) + message, IPPROTO_ICMP);
	}
	sum += sum_to_end(ctx, packet->l3 + ip_bytes + ICMP_BYTES);
	icmp = at(ctx, packet->l3 + ip_bytes);
	if ((void *)(icmp + 1) > frame_end(ctx))
		return 0;
	icmp->type_code = type_code;
	icmp->checksum = ~folded_words(sum);
	icmp->rest = rest;
	return 1;
}

static __always_inline int is_answerable(const struct packet *packet)
{
	if (packet->is_for_many || packet->kind == LATER)
		return 0;
	return packet->is_v6 || packet->ip_bytes >= (__u32)(packet->l4 - packet->l3) + QUOTED_L4_BYTES;
}

// Drops the packet and tells the client why: by a type and code, in network order, and ICMP's second word. The drop
// itself has been counted. `told` counts the answer.
static __always_inline int tell(struct xdp_md *ctx, const struct packet *packet, __u32 service, __be16 type_code,
				__be32 rest, enum event told)
{
	if (!is_answerable(packet))
		return XDP_DROP;
	if (!is_within(ERRORS)) {
		count_here(service, RATE_LIMITED);
		return XDP_DROP;
	}
	if (!write_error(ctx, packet, type_code, rest))
		return XDP_DROP;
	count_here(service, told);
	return XDP_TX;
}

// That nobody listens there.
__noinline int refuse(struct xdp_md *ctx, const struct packet *packet, __u32 service, __be16 type_code, __be32 rest)
{
	return packet ? tell(ctx, packet, service, type_code, rest, REJECTED) : XDP_DROP;
}

// RFC 9293, 3.10.7.1: what a closed port answers.
struct segment {
	__be32 sequence;
	__be32 acknowledged;
	__u32 length;
	__u8 flags;
};

static __always_inline int read_segment(const struct xdp_md *ctx, const struct packet *packet, struct segment *segment)
{
	const struct tcphdr *const tcp = at(ctx, packet->l4);
	const __u32 bytes = packet->ip_bytes - (packet->l4 - packet->l3);
	__u32 header_bytes;

	if ((const void *)(tcp + 1) > frame_end(ctx))
		return 0;
	header_bytes = tcp->doff * 4;
	segment->flags = ((const __u8 *)tcp)[TCP_FLAGS_AT];
	if (header_bytes < sizeof(*tcp) || header_bytes > bytes || (segment->flags & TCP_RST))
		return 0;
	segment->sequence = tcp->seq;
	segment->acknowledged = tcp->ack_seq;
	segment->length = bytes - header_bytes + !!(segment->flags & TCP_SYN) + !!(segment->flags & TCP_FIN);
	return 1;
}

static __always_inline void write_rst(struct tcphdr *tcp, const struct packet *packet, const struct segment *segment)
{
	const struct flow_key *const key = &packet->asked.key;
	const int is_acknowledgement = segment->flags & TCP_ACK;
	const __u32 ports = key->destination_port | (__u32)key->source_port << 16;
	const __be32 sequence = is_acknowledgement ? segment->acknowledged : 0;
	const __be32 acknowledged =
		is_acknowledgement ? 0 : bpf_htonl(bpf_ntohl(segment->sequence) + segment->length);
	const __u8 flags = is_acknowledgement ? TCP_RST : TCP_RST | TCP_ACK;
	const __u32 length_flags = bpf_htonl((__u32)(sizeof(*tcp) / 4) << 28 | (__u32)flags << 16);
	__u32 *const words = (__u32 *)tcp;

	words[0] = ports;
	words[1] = sequence;
	words[2] = acknowledged;
	words[3] = length_flags;
	words[4] = (__u16)~folded_words((__u64)ports + sequence + acknowledged + length_flags +
					pseudo_sum(packet, sizeof(*tcp), IPPROTO_TCP));
}

// The packet is changed: the answer has nothing of its TOS, class, label or identification.
__noinline int reset(struct xdp_md *ctx, struct packet *packet, __u32 service)
{
	struct segment segment = {};
	__u32 ip_bytes;
	void *ip;

	if (!packet || packet->is_for_many || !read_segment(ctx, packet, &segment))
		return XDP_DROP;
	if (!is_within(ERRORS))
		return dropped(service, RATE_LIMITED);
	ip_bytes = packet->is_v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	if (!reshape(ctx, packet, 0, ip_bytes + sizeof(struct tcphdr)))
		return XDP_DROP;
	packet->tos = 0;
	packet->id = 0;
	packet->first_word = bpf_htonl(6u << 28);
	ip = at(ctx, packet->l3);
	if (packet->is_v6) {
		if (ip + sizeof(struct ipv6hdr) + sizeof(struct tcphdr) > frame_end(ctx))
			return XDP_DROP;
		write_v6(ip, packet, sizeof(struct tcphdr), IPPROTO_TCP);
		write_rst(ip + sizeof(struct ipv6hdr), packet, &segment);
	} else {
		if (ip + sizeof(struct iphdr) + sizeof(struct tcphdr) > frame_end(ctx))
			return XDP_DROP;
		write_v4(ip, packet, sizeof(struct iphdr) + sizeof(struct tcphdr), IPPROTO_TCP);
		write_rst(ip + sizeof(struct iphdr), packet, &segment);
	}
	count(service, REJECTED);
	return XDP_TX;
}

// Refuses a packet whose drop has been counted. Fragments and ICMP are only dropped.
static __always_inline int reject(struct xdp_md *ctx, struct packet *packet, __u32 service)
{
	if (packet->kind != WHOLE || is_icmp(packet))
		return XDP_DROP;
	if (packet->protocol == IPPROTO_TCP)
		return reset(ctx, packet, service);
	if (packet->protocol == IPPROTO_UDP)
		return refuse(ctx, packet, service, packet->is_v6 ? NO_PORT_V6 : NO_PORT_V4, 0);
	if (packet->is_v6)
		return refuse(ctx, packet, service, NO_PROTOCOL_V6, bpf_htonl(packet->named_at));
	return refuse(ctx, packet, service, NO_PROTOCOL_V4, 0);
}

// Drops a packet that is longer than its path takes, and tells how long it may be. IPv4 without DF would have to be
// fragmented, and nobody on this way can do that.
static __always_inline int too_big(struct xdp_md *ctx, struct packet *packet, __u32 service, __u32 mtu)
{
	count_here(service, TOO_BIG);
	if (is_icmp(packet) || !(packet->is_v6 || packet->df))
		return XDP_DROP;
	return tell(ctx, packet, service, packet->is_v6 ? TOO_BIG_V6 : TOO_BIG_V4, bpf_htonl(mtu), TOLD_TOO_BIG);
}

static __always_inline int echo_v4(const struct xdp_md *ctx, const struct packet *packet)
{
	struct iphdr *const ip = at(ctx, packet->l3);

	if ((void *)(ip + 1) > frame_end(ctx))
		return 0;
	ip->frag_off = packet->df;
	ip->ttl = REPLY_HOPS;
	ip->check = 0;
	write_addresses_v4(ip, packet);
	ip->check = ~folded_words(sum_of((const __u32 *)ip, sizeof(*ip) / 4));
	return 1;
}

static __always_inline int echo_v6(const struct xdp_md *ctx, const struct packet *packet)
{
	struct ipv6hdr *const ip = at(ctx, packet->l3);

	if ((void *)(ip + 1) > frame_end(ctx))
		return 0;
	ip->hop_limit = REPLY_HOPS;
	write_addresses_v6(ip, packet);
	return 1;
}

// Answers a ping with its own bytes. Of what ICMP's checksum covers only the type changes.
static __always_inline int echo(struct xdp_md *ctx, const struct packet *packet, __u32 service)
{
	const __be16 asked = bpf_htons((packet->is_v6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO) << 8);
	const __be16 answered = bpf_htons((packet->is_v6 ? ICMPV6_ECHO_REPLY : ICMP_ECHOREPLY) << 8);
	struct icmp_header *const icmp = at(ctx, packet->l4);

	if ((void *)(icmp + 1) > frame_end(ctx))
		return XDP_DROP;
	icmp->type_code = answered;
	// A message of nothing but zeros would have the checksum 0xffff, which says the same as zero for every other.
	icmp->checksum = checksum_after(icmp->checksum, asked, answered) ?: 0xffff;
	if (!turn_around(ctx, packet, 0) || (packet->is_v6 ? !echo_v6(ctx, packet) : !echo_v4(ctx, packet)))
		return XDP_DROP;
	count(service, ECHO_REPLIES);
	return XDP_TX;
}

#endif
