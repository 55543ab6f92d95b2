// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The overlay between nodes. overlay_receive is on what comes in by the tunnel device: it believes nodes only, and hands
// packets for local pods to them past the network stack. overlay_send is on what comes from pods by their devices: it
// sends packets for the pods of other nodes on, in the tunnel or directly. What they do not know goes to the stack, as
// does everything that needs an answer: the stack has routes that lead to the same places.
#include <stddef.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "overlay_abi.h"

// The next program decides, and behind all of them the stack.
#define TO_STACK TC_ACT_UNSPEC

// As many as the outer header of a tunnel of the kernel's has, where nobody says otherwise.
#define OUTER_TTL 64

// Linux's own numbers, which its headers for user space do not have.
#define AF_INET 2
#define AF_INET6 10

#define FULL_BITS 128

// Entries take memory only when they are there.
#define ENTRIES_MAX (1 << 20)

#define COUNT(what)                                           \
	({                                                    \
		const __u32 cpu = bpf_get_smp_processor_id(); \
		struct overlay_counts *const line =           \
			bpf_map_lookup_elem(&counts, &cpu);   \
		if (line)                                     \
			line->what++;                         \
	})

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, ENTRIES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
	__type(key, struct overlay_prefix);
	__type(value, struct overlay_way);
} ways SEC(".maps");

// The devices of this node's pods by their addresses.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ENTRIES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
	__type(key, __u8[16]);
	__type(value, __u32);
} pods SEC(".maps");

// The ends of the other nodes; a value says nothing.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ENTRIES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
	__type(key, __u8[16]);
	__type(value, __u32);
} peers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct overlay_settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct overlay_counts);
} counts SEC(".maps");

// What is known of a packet of IP.
struct packet {
	__u8 destination[16];
	__u8 is_v6;
	__u8 hops;
	__u8 protocol;
	// Bytes of the IP header; of IPv6 without what follows it.
	__u8 header;
};

// What follows an IPv4 header's eighth byte, up to its addresses.
struct ttl_and_checksum {
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
};

static __always_inline void map_v4(__u8 *mapped, __be32 address)
{
	__builtin_memset(mapped, 0, 10);
	mapped[10] = mapped[11] = 0xff;
	__builtin_memcpy(mapped + 12, &address, 4);
}

// Whether the frame is a packet of IP.
static __always_inline int parse(const struct __sk_buff *skb, struct packet *packet)
{
	const void *const data = (const void *)(long)skb->data;
	const void *const end = (const void *)(long)skb->data_end;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		const struct iphdr *const ip = data + ETH_HLEN;

		if ((const void *)(ip + 1) > end || ip->version != 4)
			return 0;
		map_v4(packet->destination, ip->daddr);
		packet->is_v6 = 0;
		packet->hops = ip->ttl;
		packet->protocol = ip->protocol;
		packet->header = ip->ihl * 4;
		return 1;
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		const struct ipv6hdr *const ip = data + ETH_HLEN;

		if ((const void *)(ip + 1) > end || ip->version != 6)
			return 0;
		__builtin_memcpy(packet->destination, &ip->daddr, 16);
		packet->is_v6 = 1;
		packet->hops = ip->hop_limit;
		packet->protocol = ip->nexthdr;
		packet->header = sizeof(*ip);
		return 1;
	}
	return 0;
}

// Whether the packet can be sent on without the stack: it has hops left, and fits the device. If not, the stack says so
// to whom it is from.
static __always_inline int may_go(struct __sk_buff *skb, const struct packet *packet, __u32 ifindex)
{
	__u32 mtu = 0;

	return packet->hops > 1 && !bpf_check_mtu(skb, ifindex, &mtu, 0, BPF_MTU_CHK_SEGS);
}

// Whether the packet is no larger than the file allows, or each of those that it will be cut into by the device.
static __always_inline int is_small_enough(struct __sk_buff *skb, const struct packet *packet)
{
	const __u32 first = 0;
	const struct overlay_settings *const set = bpf_map_lookup_elem(&settings, &first);
	struct tcphdr tcp;
	__u32 header = sizeof(struct udphdr);

	if (!set)
		return 0;
	if (!set->mtu)
		return 1;
	if (!skb->gso_size)
		return skb->len - ETH_HLEN <= set->mtu;
	if (packet->protocol == IPPROTO_TCP) {
		if (bpf_skb_load_bytes(skb, ETH_HLEN + packet->header, &tcp, sizeof(tcp)))
			return 0;
		header = tcp.doff * 4;
	} else if (packet->protocol != IPPROTO_UDP) {
		return 0;
	}
	return packet->header + header + skb->gso_size <= set->mtu;
}

// Takes one hop, as every router does.
static __always_inline int take_hop(struct __sk_buff *skb, const struct packet *packet)
{
	struct ttl_and_checksum part;
	__u32 checksum;

	if (packet->is_v6) {
		const __u8 hops = packet->hops - 1;

		return bpf_skb_store_bytes(skb, ETH_HLEN + offsetof(struct ipv6hdr, hop_limit), &hops, 1,
					   BPF_F_RECOMPUTE_CSUM);
	}
	if (bpf_skb_load_bytes(skb, ETH_HLEN + offsetof(struct iphdr, ttl), &part, sizeof(part)))
		return -1;
	// RFC 1141: the TTL is the high byte of its word.
	checksum = bpf_ntohs(part.checksum) + 0x100;
	part.checksum = bpf_htons(checksum + (checksum >= 0xffff));
	part.ttl--;
	return bpf_skb_store_bytes(skb, ETH_HLEN + offsetof(struct iphdr, ttl), &part, sizeof(part),
				   BPF_F_RECOMPUTE_CSUM);
}

static __always_inline int send_in_tunnel(struct __sk_buff *skb, const struct overlay_way *way)
{
	struct bpf_tunnel_key key = { .tunnel_ttl = OUTER_TTL };
	const __u32 first = 0;
	const struct overlay_settings *const set = bpf_map_lookup_elem(&settings, &first);
	// Over IPv4 a checksum of UDP is not needed, over IPv6 it is (RFC 8200, section 8.1).
	__u64 flags = BPF_F_ZERO_CSUM_TX;

	if (!set)
		return TO_STACK;
	key.tunnel_id = set->vni;
	if (way->is_v6) {
		__builtin_memcpy(key.remote_ipv6, way->remote, 16);
		__builtin_memcpy(key.local_ipv6, way->local, 16);
		flags = BPF_F_TUNINFO_IPV6;
	} else {
		__be32 address;

		__builtin_memcpy(&address, way->remote + 12, 4);
		key.remote_ipv4 = bpf_ntohl(address);
		__builtin_memcpy(&address, way->local + 12, 4);
		key.local_ipv4 = bpf_ntohl(address);
	}
	if (bpf_skb_set_tunnel_key(skb, &key, sizeof(key), flags))
		return TC_ACT_SHOT;
	COUNT(sent);
	return bpf_redirect(way->ifindex, 0);
}

static __always_inline int send_directly(const struct overlay_way *way)
{
	struct bpf_redir_neigh hop = { .nh_family = way->is_v6 ? AF_INET6 : AF_INET };

	if (way->is_v6)
		__builtin_memcpy(hop.ipv6_nh, way->remote, 16);
	else
		__builtin_memcpy(&hop.ipv4_nh, way->remote + 12, 4);
	COUNT(sent_directly);
	return bpf_redirect_neigh(way->ifindex, &hop, sizeof(hop), 0);
}

// What comes from a pod.
SEC("classifier")
int overlay_send(struct __sk_buff *skb)
{
	struct overlay_prefix key = { .bits = FULL_BITS };
	const struct overlay_way *way;
	struct packet packet;

	if (!parse(skb, &packet))
		return TO_STACK;
	__builtin_memcpy(key.address, packet.destination, 16);
	way = bpf_map_lookup_elem(&ways, &key);
	// A prefix of IPv6 may contain the mapped addresses, and is not meant for them.
	if (!way || way->pods_are_v6 != packet.is_v6 || !may_go(skb, &packet, way->ifindex) ||
	    !is_small_enough(skb, &packet))
		return TO_STACK;
	if (take_hop(skb, &packet))
		return TC_ACT_SHOT;
	return way->how == OVERLAY_IN_TUNNEL ? send_in_tunnel(skb, way) : send_directly(way);
}

// Whether the tunnel's packet comes from a node, in the network of the nodes.
static __always_inline int is_of_a_node(struct __sk_buff *skb)
{
	struct bpf_tunnel_key key = {};
	const __u32 first = 0;
	const struct overlay_settings *const set = bpf_map_lookup_elem(&settings, &first);
	__u8 remote[16];

	if (!set)
		return 0;
	if (!bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0))
		map_v4(remote, bpf_htonl(key.remote_ipv4));
	else if (!bpf_skb_get_tunnel_key(skb, &key, sizeof(key), BPF_F_TUNINFO_IPV6))
		__builtin_memcpy(remote, key.remote_ipv6, 16);
	else
		return 0;
	return key.tunnel_id == set->vni && bpf_map_lookup_elem(&peers, remote);
}

// What comes in by the tunnel device.
SEC("classifier")
int overlay_receive(struct __sk_buff *skb)
{
	const __u32 *pod;
	struct packet packet;

	if (!is_of_a_node(skb)) {
		COUNT(strangers);
		return TC_ACT_SHOT;
	}
	COUNT(received);
	// The sender does not know the MAC of this device: its own is there instead.
	if (bpf_skb_change_type(skb, PACKET_HOST))
		return TC_ACT_SHOT;
	if (!parse(skb, &packet))
		return TO_STACK;
	pod = bpf_map_lookup_elem(&pods, packet.destination);
	if (!pod || !may_go(skb, &packet, *pod))
		return TO_STACK;
	if (take_hop(skb, &packet))
		return TC_ACT_SHOT;
	COUNT(delivered);
	return bpf_redirect_peer(*pod, 0);
}

char _license[] SEC("license") = "Dual BSD/GPL";
