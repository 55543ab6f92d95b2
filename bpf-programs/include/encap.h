// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Writing on the short way: the destination port, outer headers of the packet's own family, and the way out.
#ifndef NETD_ENCAP_H
#define NETD_ENCAP_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "hash.h"
#include "maps.h"
#include "netd_abi.h"
#include "parse.h"

static __always_inline __u16 folded(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

// Of a sum of words of four bytes.
static __always_inline __u16 folded_words(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return folded((sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32));
}

// RFC 1624, equation 3.
static __always_inline __u16 checksum_after(__u16 checksum, __be16 old, __be16 new)
{
	return ~folded((__u16)~checksum + (__u16)~old + new);
}

// An IPv4 header without options. What it says is summed up before it is written: bytes that were just written cannot be
// read as words at once. `id_df`: both words, in network order.
static __always_inline void write_header_v4(void *at, __u32 tos_bytes, __u32 id_df, __u32 hops_protocol,
					    const __be32 addresses[2])
{
	const __u32 first = bpf_htonl(0x45u << 24 | tos_bytes);
	const __u32 third = bpf_htonl(hops_protocol << 16);
	const __u64 sum = (__u64)first + id_df + third + addresses[0] + addresses[1];
	__u32 *const words = at;

	words[0] = first;
	words[1] = id_df;
	words[2] = third | (__u32)(__u16)~folded_words(sum) << 16;
	words[3] = addresses[0];
	words[4] = addresses[1];
}

// The lengths have been checked before; comparing with the end again is for the verifier, which does not remember that
// a header of TCP is longer than one of UDP.
static __always_inline void set_destination_port(struct ports *ports, __u8 protocol, __be16 port, const void *end)
{
	const __be16 old = ports->destination;
	struct tcphdr *const tcp = (void *)ports;
	struct udphdr *const udp = (void *)ports;

	if (!port || port == old)
		return;
	ports->destination = port;
	if (protocol == IPPROTO_TCP) {
		if ((const void *)(tcp + 1) <= end)
			tcp->check = checksum_after(tcp->check, old, port);
	} else if ((const void *)(udp + 1) <= end && udp->check) {
		// Zero would say that the sender computed none, also over IPv6 (RFC 6935).
		udp->check = checksum_after(udp->check, old, port) ?: 0xffff;
	}
}

// Both MAC addresses. User space replaces eight bytes of a line at once, so the destination is read whole.
static __always_inline void set_macs(struct ethhdr *eth, const struct backend *backend)
{
	*(__u64 *)eth = *(const volatile __u64 *)backend;
	*((__u32 *)eth + 2) = *((const __u32 *)backend + 2);
}

// TOS or traffic class outside: as configured.
static __always_inline __u8 outer_tos(__u8 inner)
{
	const __u8 dscp = settings.outer_dscp == COPY ? inner & 0xfc : settings.outer_dscp << 2;

	return settings.copies_ecn ? dscp | (inner & 3) : dscp;
}

static __always_inline void write_outer_v4(void *at, const struct iphdr *inner, const struct backend *backend,
					   __be32 source_low)
{
	__u16 *const words = at;
	const __be16 length = bpf_htons(bpf_ntohs(inner->tot_len) + sizeof(struct iphdr));
	const __be16 hops = bpf_htons(settings.hop_limit << 8 | IPPROTO_IPIP);
	// The compiler may not assume that map memory does not change: each value is read once.
	const __u32 source = *(const volatile __u32 *)backend->source | source_low;
	const __u32 destination = *(const volatile __u32 *)backend->destination;
	const __be16 tos = bpf_htons(outer_tos(inner->tos));
	const __be16 df = inner->frag_off & IPV4_DF;
	const __u32 sum = backend->checksum + tos + length + inner->id + df + hops + (source_low & 0xffff) +
			  (source_low >> 16);

	words[0] = bpf_htons(0x4500) | tos;
	words[1] = length;
	words[2] = inner->id;
	words[3] = df;
	words[4] = hops;
	words[5] = ~folded(sum);
	*(__u32 *)&words[6] = source;
	*(__u32 *)&words[8] = destination;
}

// The low bits of the outer source: each 32-bit word that the prefix does not fill is hashed by itself.
static __always_inline void set_source_bits_v6(__u32 source[4], const __u32 client[4], const struct ports *ports,
					       __u32 bits)
{
	if (!bits)
		return;
	source[3] |= source_bits_of(client[3], ports, bits < 32 ? bits : 32);
	if (bits > 32)
		source[2] |= source_bits_of(client[2], ports, bits < 64 ? bits - 32 : 32);
	if (bits > 64)
		source[1] |= source_bits_of(client[1], ports, bits < 96 ? bits - 64 : 32);
	if (bits > 96)
		source[0] |= source_bits_of(client[0], ports, bits < 128 ? bits - 96 : 32);
}

// The traffic class lies across the first bytes: four bits of the first, four of the second.
static __always_inline __u32 outer_first_word(__u32 inner)
{
	const __u32 word = bpf_ntohl(inner);

	if (settings.outer_dscp == COPY && settings.copies_ecn)
		return inner;
	return bpf_htonl((word & 0xf00fffff) | (__u32)outer_tos(word >> 20) << 20);
}

static __always_inline void write_outer_v6(void *at, const struct ipv6hdr *inner, const struct backend *backend,
					   const struct ports *ports)
{
	__u32 *const words = at;
	const __u16 length = bpf_ntohs(inner->payload_len) + sizeof(struct ipv6hdr);
	const __u32 *const prefix = (const __u32 *)backend->source;
	const __u32 *const destination = (const __u32 *)backend->destination;
	__u32 source[4] = { prefix[0], prefix[1], prefix[2], prefix[3] };

	set_source_bits_v6(source, (const __u32 *)&inner->saddr, ports, backend->source_bits);
	words[0] = outer_first_word(*(const __u32 *)inner);
	words[1] = bpf_htonl((__u32)length << 16 | IPPROTO_IPV6 << 8 | settings.hop_limit);
	words[2] = source[0];
	words[3] = source[1];
	words[4] = source[2];
	words[5] = source[3];
	words[6] = destination[0];
	words[7] = destination[1];
	words[8] = destination[2];
	words[9] = destination[3];
}

static __always_inline int send(const struct xdp_md *ctx, const struct backend *backend)
{
	const __u32 ifindex = backend->ifindex;

	return ifindex == ctx->ingress_ifindex ? XDP_TX : bpf_redirect(ifindex, 0);
}

#endif
