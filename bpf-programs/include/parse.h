// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// What of a frame the programs look at, and the checks that make looking safe.
#ifndef NETD_PARSE_H
#define NETD_PARSE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/types.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define IPV4_DF bpf_htons(0x4000)
#define IPV4_MF_OR_OFFSET bpf_htons(0x3fff)
#define LONGEST_IP 65535

// TCP and UDP begin alike.
struct ports {
	__be16 source;
	__be16 destination;
};

static __always_inline void *frame(const struct xdp_md *ctx)
{
	return (void *)(long)ctx->data;
}

static __always_inline void *frame_end(const struct xdp_md *ctx)
{
	return (void *)(long)ctx->data_end;
}

// A length field as a number. Verifiers up to at least Linux 6.1 take a word whose bytes were swapped for one of any
// size, so its size is said again, where the compiler cannot leave it out.
static __always_inline __u32 length_of(__be16 field)
{
	__u64 length = bpf_ntohs(field);

	asm volatile("%0 &= 0xffff" : "+r"(length));
	return length;
}

// The least that a TCP or UDP header takes.
static __always_inline __u32 l4_header_bytes(__u8 protocol)
{
	return protocol == IPPROTO_TCP ? sizeof(struct tcphdr) : sizeof(struct udphdr);
}

static __always_inline int is_tcp_or_udp(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

// A client's first packet: SYN without ACK.
static __always_inline int is_first_of_tcp(const struct ports *ports, __u8 protocol, const void *end)
{
	const __u8 *const flags = (const __u8 *)ports + 13;

	return protocol == IPPROTO_TCP && (const void *)(flags + 1) <= end && (*flags & 0x12) == 0x02;
}

#endif
