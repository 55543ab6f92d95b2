// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Writing addresses and ports, and the checksums that they are in: section 8 of docs/nat.md.
//
// The kernel's helpers know of checksums that the device completes. Two things they do not know: that no header's checksum
// makes up for a changed address of IPv6, so that the sum of the packet that a driver has given has to follow
// (BPF_F_RECOMPUTE_CSUM); and a quoted packet, whose checksums nobody completes.
#ifndef NETD_NAT_REWRITE_H
#define NETD_NAT_REWRITE_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "nat_packet.h"

#define TCP_CHECKSUM_AT 16
#define UDP_CHECKSUM_AT 6
#define ICMP_CHECKSUM_AT 2
#define IPV4_CHECKSUM_AT 10
#define ECHO_ID_AT 4

enum nat_side { SOURCE, DESTINATION };

// What takes an address's and a port's place.
struct nat_place {
	__u8 address[16];
	__be16 port;
};

static __always_inline const __u8 *address_of(const struct nat_packet *packet, enum nat_side side)
{
	return side == SOURCE ? packet->source : packet->destination;
}

static __always_inline __u32 address_at(const struct nat_packet *packet, enum nat_side side)
{
	if (packet->is_v6)
		return packet->l3 + (side == SOURCE ? 8 : 24);
	return packet->l3 + (side == SOURCE ? 12 : 16);
}

static __always_inline __u32 port_at(const struct nat_packet *packet, enum nat_side side)
{
	if (is_echo(packet))
		return packet->l4 + ECHO_ID_AT;
	return packet->l4 + (side == SOURCE ? 0 : 2);
}

static __always_inline __u32 checksum_at(const struct nat_packet *packet)
{
	if (packet->what == TCP_SEGMENT)
		return packet->l4 + TCP_CHECKSUM_AT;
	return packet->l4 + (packet->what == UDP_PACKET ? UDP_CHECKSUM_AT : ICMP_CHECKSUM_AT);
}

// By how much a sum over the address changes.
static __always_inline __u32 address_diff(const struct nat_packet *packet, enum nat_side side, const __u8 *to)
{
	const __u8 *const from = address_of(packet, side);

	if (packet->is_v6)
		return bpf_csum_diff((__be32 *)from, 16, (__be32 *)to, 16, 0);
	return bpf_csum_diff((__be32 *)(from + 12), 4, (__be32 *)(to + 12), 4, 0);
}

// RFC 1624, equation 3.
static __always_inline __u16 updated(__u16 checksum, __u32 diff)
{
	__u32 sum = (__u16)~checksum + (diff & 0xffff) + (diff >> 16);

	sum = (sum & 0xffff) + (sum >> 16);
	return ~((sum & 0xffff) + (sum >> 16));
}

static __always_inline int write_address(struct __sk_buff *skb, const struct nat_packet *packet, enum nat_side side,
					 const __u8 *to)
{
	const __u32 at = address_at(packet, side);

	if (packet->is_v6)
		return bpf_skb_store_bytes(skb, at, to, 16, BPF_F_RECOMPUTE_CSUM);
	if (bpf_l3_csum_replace(skb, packet->l3 + IPV4_CHECKSUM_AT, *(__u32 *)(address_of(packet, side) + 12),
				*(__u32 *)(to + 12), 4))
		return -1;
	return bpf_skb_store_bytes(skb, at, to + 12, 4, 0);
}

// Gives a packet with ports, or an echo, another source or destination.
static __noinline int rewrite(struct __sk_buff *skb, const struct nat_packet *packet, enum nat_side side,
			      const struct nat_place *to)
{
	const __be16 port = side == SOURCE ? packet->source_port : packet->destination_port;
	const __u64 mangled = packet->what == UDP_PACKET ? BPF_F_MARK_MANGLED_0 : 0;
	const __u32 checksum = checksum_at(packet);

	// ICMP's checksum is over no addresses, ICMPv6's is.
	if ((packet->is_v6 || !is_echo(packet)) &&
	    bpf_l4_csum_replace(skb, checksum, 0, address_diff(packet, side, to->address),
				BPF_F_PSEUDO_HDR | mangled))
		return -1;
	if (bpf_l4_csum_replace(skb, checksum, port, to->port, mangled | sizeof(port)) ||
	    bpf_skb_store_bytes(skb, port_at(packet, side), &to->port, sizeof(to->port), 0))
		return -1;
	return write_address(skb, packet, side, to->address);
}

// Writes two bytes of a quoted packet, and the error's checksum over them.
static __always_inline int write_quoted(struct __sk_buff *skb, __u32 error_checksum, __u32 at, __u16 from, __u16 to)
{
	return bpf_l4_csum_replace(skb, error_checksum, from, to, sizeof(to)) ||
	       bpf_skb_store_bytes(skb, at, &to, sizeof(to), 0);
}

// The checksum that the quoted packet carries, if it has come as far.
static __always_inline int rewrite_quoted_checksum(struct __sk_buff *skb, const struct nat_packet *quoted,
						   __u32 error_checksum, __u32 address_diff, __u32 port_diff)
{
	const __u32 at = checksum_at(quoted);
	__u16 before, after;

	if (bpf_skb_load_bytes(skb, at, &before, sizeof(before)))
		return 0;
	if (quoted->what == UDP_PACKET && !before)
		return 0;
	after = before;
	if (quoted->is_v6 || !is_echo(quoted))
		after = updated(after, address_diff);
	after = updated(after, port_diff);
	if (quoted->what == UDP_PACKET && !after)
		after = 0xffff;
	return write_quoted(skb, error_checksum, at, before, after);
}

// Gives the packet that an error quotes another source or destination.
static __noinline int rewrite_quoted(struct __sk_buff *skb, const struct nat_packet *error,
				     const struct nat_packet *quoted, enum nat_side side, const struct nat_place *to)
{
	const __be16 port = side == SOURCE ? quoted->source_port : quoted->destination_port;
	const __u32 error_checksum = error->l4 + ICMP_CHECKSUM_AT;
	const __u32 diff = address_diff(quoted, side, to->address);
	const __u32 port_diff = (__u16)~port + (__u32)to->port;

	if (bpf_l4_csum_replace(skb, error_checksum, 0, diff, 0))
		return -1;
	if (!quoted->is_v6) {
		const __u32 at = quoted->l3 + IPV4_CHECKSUM_AT;
		__u16 before;

		if (bpf_skb_load_bytes(skb, at, &before, sizeof(before)) ||
		    write_quoted(skb, error_checksum, at, before, updated(before, diff)))
			return -1;
	}
	if (rewrite_quoted_checksum(skb, quoted, error_checksum, diff, port_diff) ||
	    write_quoted(skb, error_checksum, port_at(quoted, side), port, to->port))
		return -1;
	if (quoted->is_v6)
		return bpf_skb_store_bytes(skb, address_at(quoted, side), to->address, 16, 0);
	return bpf_skb_store_bytes(skb, address_at(quoted, side), to->address + 12, 4, 0);
}

// Gives an error another source or destination; ICMPv6's checksum is over the addresses.
static __noinline int rewrite_error(struct __sk_buff *skb, const struct nat_packet *error, enum nat_side side,
				    const struct nat_place *to)
{
	if (error->is_v6 && bpf_l4_csum_replace(skb, error->l4 + ICMP_CHECKSUM_AT, 0,
						address_diff(error, side, to->address), BPF_F_PSEUDO_HDR))
		return -1;
	return write_address(skb, error, side, to->address);
}

#endif
