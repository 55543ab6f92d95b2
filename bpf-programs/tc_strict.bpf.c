// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Strict mode: what is to be encrypted does not go by a device in clear. strict_out is on what leaves: it drops what is for
// a listed destination and is none of WireGuard's own packets, also inside of the nodes' tunnel. strict_in is on what comes
// in: it drops what says that it is from a listed source. Neither changes a packet, and what they do not drop goes on to
// whoever is next.
#include <stddef.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "strict_abi.h"

// The next program decides, and behind all of them the device.
#define GOES_ON TC_ACT_UNSPEC

#define FULL_BITS 128

// Entries take memory only when they are there.
#define ENTRIES_MAX (1 << 20)

// Packets in fragments at the same time, of those that are dropped.
#define FRAGMENTED_MAX 4096

// RFC 791: the bits behind the three flags, and the last of these.
#define IPV4_OFFSET 0x1fff
#define IPV4_MORE 0x2000

// RFC 8200, section 4.5: in units of eight bytes, above three bits of which the lowest says that more follow.
#define IPV6_OFFSET 0xfff8
#define IPV6_MORE 0x0001

// Of neighbour discovery (RFC 4861): nobody could be sent anything without.
#define ND_FIRST 133
#define ND_LAST 137
#define ND_HOP_LIMIT 255

// What WireGuard's messages begin with, as a number of four bytes, the lowest first.
#define WIREGUARD_FIRST 1
#define WIREGUARD_LAST 4

// VXLAN's header (RFC 7348), and Geneve's without options (RFC 8926).
#define TUNNEL_HEADER 8
#define GENEVE_OPTIONS 0x3f

#define COUNT(what)                                           \
	({                                                    \
		const __u32 cpu = bpf_get_smp_processor_id(); \
		struct strict_counts *const line =            \
			bpf_map_lookup_elem(&counts, &cpu);   \
		if (line)                                     \
			line->what++;                         \
	})

// The families have maps of their own, so that a prefix of one never stands before one of the other.
struct prefixes {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, ENTRIES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
	__type(key, struct strict_prefix);
	__type(value, __u32);
};

struct prefixes out_v4 SEC(".maps");
struct prefixes out_v6 SEC(".maps");
struct prefixes in_v4 SEC(".maps");
struct prefixes in_v6 SEC(".maps");

// Whose first fragment was dropped; a value says nothing.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FRAGMENTED_MAX);
	__type(key, struct strict_fragments);
	__type(value, __u32);
} fragmented SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct strict_settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct strict_counts);
} counts SEC(".maps");

// What is known of a packet of IP.
struct packet {
	struct strict_fragments name;
	// Where what follows the headers of IP begins.
	__u32 payload;
	__u8 protocol;
	__u8 hops;
	__u8 is_first;
	__u8 has_more;
};

struct fragment_header {
	__u8 next;
	__u8 reserved;
	__be16 offset;
	__be32 id;
};

static __always_inline void map_v4(__u8 *mapped, __be32 address)
{
	__builtin_memset(mapped, 0, 10);
	mapped[10] = mapped[11] = 0xff;
	__builtin_memcpy(mapped + 12, &address, 4);
}

static __always_inline int parse_v4(struct __sk_buff *skb, __u32 at, struct packet *packet)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return 0;
	map_v4(packet->name.source, ip.saddr);
	map_v4(packet->name.destination, ip.daddr);
	packet->name.id = ip.id;
	packet->name.is_v6 = 0;
	packet->payload = at + ip.ihl * 4;
	packet->protocol = ip.protocol;
	packet->hops = ip.ttl;
	packet->is_first = !(ip.frag_off & bpf_htons(IPV4_OFFSET));
	packet->has_more = !!(ip.frag_off & bpf_htons(IPV4_MORE));
	return 1;
}

static __always_inline int parse_v6(struct __sk_buff *skb, __u32 at, struct packet *packet)
{
	struct fragment_header fragment;
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.version != 6)
		return 0;
	__builtin_memcpy(packet->name.source, &ip.saddr, 16);
	__builtin_memcpy(packet->name.destination, &ip.daddr, 16);
	packet->name.id = 0;
	packet->name.is_v6 = 1;
	packet->payload = at + sizeof(ip);
	packet->protocol = ip.nexthdr;
	packet->hops = ip.hop_limit;
	packet->is_first = 1;
	packet->has_more = 0;
	// The only header that a node puts between those of its tunnel.
	if (ip.nexthdr == IPPROTO_FRAGMENT) {
		if (bpf_skb_load_bytes(skb, packet->payload, &fragment, sizeof(fragment)))
			return 1;
		packet->name.id = fragment.id;
		packet->payload += sizeof(fragment);
		packet->protocol = fragment.next;
		packet->is_first = !(fragment.offset & bpf_htons(IPV6_OFFSET));
		packet->has_more = !!(fragment.offset & bpf_htons(IPV6_MORE));
	}
	return 1;
}

// Whether it is a packet of IP; its headers begin at `at`.
static __always_inline int parse(struct __sk_buff *skb, __u16 ethertype, __u32 at, struct packet *packet)
{
	if (ethertype == bpf_htons(ETH_P_IP))
		return parse_v4(skb, at, packet);
	if (ethertype == bpf_htons(ETH_P_IPV6))
		return parse_v6(skb, at, packet);
	return 0;
}

static __always_inline int is_in(void *v4, void *v6, const __u8 *address, __u32 is_v6)
{
	struct strict_prefix key = { .bits = FULL_BITS };

	__builtin_memcpy(key.address, address, 16);
	return bpf_map_lookup_elem(is_v6 ? v6 : v4, &key) != NULL;
}

// Whether it is a packet of this node's WireGuard: its mark is on it, which nobody else puts there, and it begins as all of
// them do. Of its later fragments the mark says enough.
static __always_inline int is_encrypted(struct __sk_buff *skb, const struct strict_settings *set,
					const struct packet *packet)
{
	__u32 kind;

	if (!set->mark || skb->mark != set->mark || packet->protocol != IPPROTO_UDP)
		return 0;
	if (!packet->is_first)
		return 1;
	if (bpf_skb_load_bytes(skb, packet->payload + sizeof(struct udphdr), &kind, sizeof(kind)))
		return 0;
	kind = __builtin_bswap32(bpf_ntohl(kind));
	return kind >= WIREGUARD_FIRST && kind <= WIREGUARD_LAST;
}

static __always_inline int is_neighbour_discovery(struct __sk_buff *skb, const struct packet *packet)
{
	__u8 type;

	return packet->name.is_v6 && packet->protocol == IPPROTO_ICMPV6 && packet->hops == ND_HOP_LIMIT &&
	       packet->is_first && !bpf_skb_load_bytes(skb, packet->payload, &type, sizeof(type)) &&
	       type >= ND_FIRST && type <= ND_LAST;
}

// Whether the packet carries another one in the nodes' tunnel: that.
static __always_inline int parse_inner(struct __sk_buff *skb, const struct strict_settings *set,
				       const struct packet *packet, struct packet *inner)
{
	__u32 at = packet->payload + sizeof(struct udphdr);
	struct udphdr udp;
	__be16 ethertype;
	__u8 options;

	if (!set->tunnel || packet->protocol != IPPROTO_UDP || !packet->is_first)
		return 0;
	if (bpf_skb_load_bytes(skb, packet->payload, &udp, sizeof(udp)) ||
	    udp.dest != bpf_htons(set->tunnel_port))
		return 0;
	if (set->tunnel == STRICT_GENEVE) {
		if (bpf_skb_load_bytes(skb, at, &options, sizeof(options)))
			return 0;
		at += (options & GENEVE_OPTIONS) * 4;
	}
	at += TUNNEL_HEADER + ETH_HLEN;
	if (bpf_skb_load_bytes(skb, at - sizeof(ethertype), &ethertype, sizeof(ethertype)))
		return 0;
	return parse(skb, ethertype, at, inner);
}

// What leaves by the device.
SEC("classifier")
int strict_out(struct __sk_buff *skb)
{
	const __u32 first = 0;
	const struct strict_settings *const set = bpf_map_lookup_elem(&settings, &first);
	struct packet packet = {}, inner = {};

	if (!set || !parse(skb, skb->protocol, ETH_HLEN, &packet) || is_encrypted(skb, set, &packet))
		return GOES_ON;
	if (is_in(&out_v4, &out_v6, packet.name.destination, packet.name.is_v6)) {
		if (is_neighbour_discovery(skb, &packet))
			return GOES_ON;
		COUNT(out_plain);
		return TC_ACT_SHOT;
	}
	if (!packet.is_first && packet.protocol == IPPROTO_UDP &&
	    bpf_map_lookup_elem(&fragmented, &packet.name)) {
		COUNT(out_fragment);
		return TC_ACT_SHOT;
	}
	if (!parse_inner(skb, set, &packet, &inner) ||
	    !is_in(&out_v4, &out_v6, inner.name.destination, inner.name.is_v6))
		return GOES_ON;
	if (packet.has_more)
		bpf_map_update_elem(&fragmented, &packet.name, &first, BPF_ANY);
	COUNT(out_tunnel);
	return TC_ACT_SHOT;
}

// What comes in by the device. Without its first fragment a packet is never put together, so later ones need no look.
SEC("classifier")
int strict_in(struct __sk_buff *skb)
{
	const __u32 first = 0;
	const struct strict_settings *const set = bpf_map_lookup_elem(&settings, &first);
	struct packet packet = {}, inner = {};

	if (!set || !parse(skb, skb->protocol, ETH_HLEN, &packet))
		return GOES_ON;
	if (is_in(&in_v4, &in_v6, packet.name.source, packet.name.is_v6)) {
		COUNT(in_plain);
		return TC_ACT_SHOT;
	}
	if (parse_inner(skb, set, &packet, &inner) &&
	    is_in(&in_v4, &in_v6, inner.name.source, inner.name.is_v6)) {
		COUNT(in_tunnel);
		return TC_ACT_SHOT;
	}
	return GOES_ON;
}

char _license[] SEC("license") = "Dual BSD/GPL";
