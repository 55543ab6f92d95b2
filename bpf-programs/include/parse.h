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
#define IPV4_MF bpf_htons(0x2000)
#define IPV4_OFFSET bpf_htons(0x1fff)
#define IPV4_MF_OR_OFFSET bpf_htons(0x3fff)
// The first byte of an IPv4 header without options.
#define IPV4_PLAIN 0x45

#define TCP_FLAGS_AT 13
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

// Types and codes of ICMP (RFC 792) and ICMPv6 (RFC 4443); the kernel's header of the former wants a C library.
#define ICMP_ECHOREPLY 0
#define ICMP_DEST_UNREACH 3
#define ICMP_PROT_UNREACH 2
#define ICMP_PORT_UNREACH 3
#define ICMP_FRAG_NEEDED 4
#define ICMP_ECHO 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12
#define ICMPV6_DEST_UNREACH 1
#define ICMPV6_PORT_UNREACH 4
#define ICMPV6_PKT_TOOBIG 2
#define ICMPV6_PARAMPROB 4
#define ICMPV6_UNK_NEXTHDR 1
#define ICMPV6_ECHO_REQUEST 128
#define ICMPV6_ECHO_REPLY 129

struct icmp_header {
	__be16 type_code;
	__u16 checksum;
	__be32 rest;
};

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
static __always_inline int is_first_of_tcp(__u8 flags)
{
	return (flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

#endif
