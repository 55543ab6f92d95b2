// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The tunnel of netd's health checks. A probe is a packet of a socket of netd's own to a VIP. Its mark says through
// which backend's tunnel it has to go; here, on its way out of the node, it is put into it, exactly as the load balancer
// would put a client's packet. Every other packet passes as it came.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// The twin of MARK in src/probe_tunnel.rs; the low half is the number of the probe's path.
#define MARK 0x4e440000
#define MARK_BITS 0xffff0000

#define IPV4_DF 0x4000

// The ports that flows' entropy is spread over, as RFC 6335 leaves them free.
#define DYNAMIC_PORTS 0xc000

// The twin of `value` in src/probe_tunnel.rs. IPv4 addresses are in the first four bytes.
struct probe_path {
	__u8 destination_mac[6];
	__u8 source_mac[6];
	__u8 destination[16];
	__u8 source[16];
	__u32 ifindex;
	__be16 gue_port; // zero: IP in IP
	__u8 is_ipv6;
	__u8 hop_limit;
};

_Static_assert(sizeof(struct probe_path) == 52, "user space writes as many bytes");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct probe_path);
} probe_paths SEC(".maps");

struct outer_v4 {
	struct iphdr ip;
	struct udphdr udp;
};

struct outer_v6 {
	struct ipv6hdr ip;
	struct udphdr udp;
};

_Static_assert(sizeof(struct outer_v4) == 28 && sizeof(struct outer_v6) == 48, "headers follow each other");

static __always_inline __u16 checksum_of(const struct iphdr *ip)
{
	const __u16 *const words = (const void *)ip;
	__u32 sum = 0;

#pragma unroll
	for (int word = 0; word < 10; word++)
		sum += words[word];
	sum = (sum & 0xffff) + (sum >> 16);
	return ~((sum & 0xffff) + (sum >> 16));
}

// No checksum over the payload: the inner packet has its own (RFC 6935 for IPv6).
static __always_inline struct udphdr udp_of(struct __sk_buff *skb, const struct probe_path *path, __u32 inner_bytes)
{
	return (struct udphdr){
		.source = bpf_htons(DYNAMIC_PORTS | (bpf_get_hash_recalc(skb) & 0x3fff)),
		.dest = path->gue_port,
		.len = bpf_htons(inner_bytes + sizeof(struct udphdr)),
	};
}

static __always_inline int wrap_v4(struct __sk_buff *skb, const struct probe_path *path, __u8 protocol)
{
	const __u32 inner_bytes = skb->len - sizeof(struct ethhdr);
	const __u32 bytes = sizeof(struct iphdr) + (path->gue_port ? sizeof(struct udphdr) : 0);
	const __u64 flags = BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | (path->gue_port ? BPF_F_ADJ_ROOM_ENCAP_L4_UDP : 0);
	struct outer_v4 outer = {
		.ip = {
			.version = 4,
			.ihl = 5,
			.tot_len = bpf_htons(inner_bytes + bytes),
			.frag_off = bpf_htons(IPV4_DF),
			.ttl = path->hop_limit,
			.protocol = path->gue_port ? IPPROTO_UDP : protocol,
		},
		.udp = udp_of(skb, path, inner_bytes),
	};

	__builtin_memcpy(&outer.ip.saddr, path->source, 4);
	__builtin_memcpy(&outer.ip.daddr, path->destination, 4);
	outer.ip.check = checksum_of(&outer.ip);
	if (bpf_skb_adjust_room(skb, bytes, BPF_ADJ_ROOM_MAC, flags))
		return -1;
	if (path->gue_port)
		return bpf_skb_store_bytes(skb, ETH_HLEN, &outer, sizeof(outer), 0);
	return bpf_skb_store_bytes(skb, ETH_HLEN, &outer, sizeof(outer.ip), 0);
}

static __always_inline int wrap_v6(struct __sk_buff *skb, const struct probe_path *path, __u8 protocol)
{
	const __u32 inner_bytes = skb->len - sizeof(struct ethhdr);
	const __u32 more = path->gue_port ? sizeof(struct udphdr) : 0;
	const __u64 flags = BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 | (path->gue_port ? BPF_F_ADJ_ROOM_ENCAP_L4_UDP : 0);
	struct outer_v6 outer = {
		.ip = {
			.version = 6,
			.payload_len = bpf_htons(inner_bytes + more),
			.nexthdr = path->gue_port ? IPPROTO_UDP : protocol,
			.hop_limit = path->hop_limit,
		},
		.udp = udp_of(skb, path, inner_bytes),
	};

	__builtin_memcpy(&outer.ip.saddr, path->source, 16);
	__builtin_memcpy(&outer.ip.daddr, path->destination, 16);
	if (bpf_skb_adjust_room(skb, sizeof(struct ipv6hdr) + more, BPF_ADJ_ROOM_MAC, flags))
		return -1;
	if (path->gue_port)
		return bpf_skb_store_bytes(skb, ETH_HLEN, &outer, sizeof(outer), 0);
	return bpf_skb_store_bytes(skb, ETH_HLEN, &outer, sizeof(outer.ip), 0);
}

// A probe that finds no tunnel goes nowhere: sent on as it is, it would come back as a client's packet.
SEC("classifier")
int tc_probe(struct __sk_buff *skb)
{
	const __u32 id = skb->mark & ~MARK_BITS;
	const struct probe_path *path;
	struct ethhdr eth;
	__u8 protocol;

	if ((skb->mark & MARK_BITS) != MARK)
		return TC_ACT_UNSPEC;
	path = bpf_map_lookup_elem(&probe_paths, &id);
	if (!path)
		return TC_ACT_SHOT;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		protocol = IPPROTO_IPIP;
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		protocol = IPPROTO_IPV6;
	else
		return TC_ACT_SHOT;
	if (path->is_ipv6 ? wrap_v6(skb, path, protocol) : wrap_v4(skb, path, protocol))
		return TC_ACT_SHOT;

	__builtin_memcpy(eth.h_dest, path->destination_mac, ETH_ALEN);
	__builtin_memcpy(eth.h_source, path->source_mac, ETH_ALEN);
	eth.h_proto = path->is_ipv6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
	if (bpf_skb_store_bytes(skb, 0, &eth, sizeof(eth), 0))
		return TC_ACT_SHOT;
	// The program may be on the other device, too.
	skb->mark = 0;
	return path->ifindex == skb->ifindex ? TC_ACT_OK : bpf_redirect(path->ifindex, 0);
}

char _license[] SEC("license") = "Dual BSD/GPL";
