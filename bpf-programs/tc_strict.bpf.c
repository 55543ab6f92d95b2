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

// Of VLANs, one in another: what has more is not looked through. The kernel takes tags of VLAN 0 away one by one.
#define TAGS_MAX 4
#define TAG_LEN 4

// Headers between that of IPv6 and what it carries; what has more is not looked through.
#define EXTENSIONS_MAX 8

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
	// Whether the headers were read to their end: `protocol` is what the packet carries, and `payload` where that begins.
	__u8 is_read;
	// Whether there are none between that of IP and what it carries.
	__u8 is_bare;
};

// What comes of looking for a packet of IP.
enum found {
	NOTHING,
	FOUND,
	// There may be one, and it cannot be read.
	HIDDEN,
};

// Any header behind that of IPv6 but for a fragment's has only the first two members, and its own.
struct extension {
	__u8 next;
	__u8 words;
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
		return HIDDEN;
	map_v4(packet->name.source, ip.saddr);
	map_v4(packet->name.destination, ip.daddr);
	packet->name.id = ip.id;
	packet->name.is_v6 = 0;
	packet->payload = at + ip.ihl * 4;
	packet->protocol = ip.protocol;
	packet->hops = ip.ttl;
	packet->is_first = !(ip.frag_off & bpf_htons(IPV4_OFFSET));
	packet->has_more = !!(ip.frag_off & bpf_htons(IPV4_MORE));
	packet->is_read = 1;
	packet->is_bare = 1;
	return FOUND;
}

// Walks the headers behind that of IPv6 as the kernel does, up to what is carried. Of a later fragment what follows is no
// header.
static __always_inline void walk_extensions(struct __sk_buff *skb, struct packet *packet)
{
	struct extension header;
	int is_named = 0;

	for (int i = 0; i <= EXTENSIONS_MAX; i++) {
		if (packet->protocol != IPPROTO_HOPOPTS && packet->protocol != IPPROTO_ROUTING &&
		    packet->protocol != IPPROTO_DSTOPTS && packet->protocol != IPPROTO_FRAGMENT) {
			packet->is_read = 1;
			return;
		}
		if (bpf_skb_load_bytes(skb, packet->payload, &header, sizeof(header)))
			return;
		packet->is_bare = 0;
		if (packet->protocol != IPPROTO_FRAGMENT) {
			packet->protocol = header.next;
			packet->payload += (header.words + 1) * 8;
			continue;
		}
		packet->protocol = header.next;
		packet->payload += sizeof(header);
		// One in another: the outer one is put together first.
		if (!is_named)
			packet->name.id = header.id;
		is_named = 1;
		packet->has_more |= !!(header.offset & bpf_htons(IPV6_MORE));
		if (header.offset & bpf_htons(IPV6_OFFSET)) {
			packet->is_first = 0;
			packet->is_read = 1;
			return;
		}
	}
}

static __always_inline int parse_v6(struct __sk_buff *skb, __u32 at, struct packet *packet)
{
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.version != 6)
		return HIDDEN;
	__builtin_memcpy(packet->name.source, &ip.saddr, 16);
	__builtin_memcpy(packet->name.destination, &ip.daddr, 16);
	packet->name.id = 0;
	packet->name.is_v6 = 1;
	packet->payload = at + sizeof(ip);
	packet->protocol = ip.nexthdr;
	packet->hops = ip.hop_limit;
	packet->is_first = 1;
	packet->has_more = 0;
	packet->is_read = 0;
	packet->is_bare = 1;
	return FOUND;
}

static __always_inline int is_tag(__be16 ethertype)
{
	return ethertype == bpf_htons(ETH_P_8021Q) || ethertype == bpf_htons(ETH_P_8021AD);
}

// The packet of IP that begins at `at`, or behind the tags of VLANs that are there. Of IPv6 its first header is read.
static __always_inline enum found parse(struct __sk_buff *skb, __be16 ethertype, __u32 at,
					struct packet *packet)
{
	for (int i = 0; i < TAGS_MAX && is_tag(ethertype); i++) {
		if (bpf_skb_load_bytes(skb, at + 2, &ethertype, sizeof(ethertype)))
			return HIDDEN;
		at += TAG_LEN;
	}
	if (ethertype == bpf_htons(ETH_P_IP))
		return parse_v4(skb, at, packet);
	if (ethertype == bpf_htons(ETH_P_IPV6))
		return parse_v6(skb, at, packet);
	return is_tag(ethertype) ? HIDDEN : NOTHING;
}

// As `parse`, of a frame, with all headers of the packet's.
static __always_inline enum found parse_outer(struct __sk_buff *skb, struct packet *packet)
{
	const enum found found = parse(skb, skb->protocol, ETH_HLEN, packet);

	if (found == FOUND && packet->name.is_v6)
		walk_extensions(skb, packet);
	return found;
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

	return packet->name.is_v6 && packet->is_bare && packet->protocol == IPPROTO_ICMPV6 &&
	       packet->hops == ND_HOP_LIMIT && !bpf_skb_load_bytes(skb, packet->payload, &type, sizeof(type)) &&
	       type >= ND_FIRST && type <= ND_LAST;
}

// The packet that another one carries in the nodes' tunnel. What cannot be read far enough to say so is hidden: a fragment
// that ends within the headers, for one, whose rest nobody looks at any more.
static __always_inline enum found parse_inner(struct __sk_buff *skb, const struct strict_settings *set,
					      const struct packet *packet, struct packet *inner)
{
	__u32 at = packet->payload + sizeof(struct udphdr);
	struct udphdr udp;
	__be16 ethertype;
	__u8 options;

	if (!set->tunnel || !packet->is_first)
		return NOTHING;
	if (!packet->is_read)
		return HIDDEN;
	if (packet->protocol != IPPROTO_UDP)
		return NOTHING;
	if (bpf_skb_load_bytes(skb, packet->payload, &udp, sizeof(udp)))
		return HIDDEN;
	if (udp.dest != bpf_htons(set->tunnel_port))
		return NOTHING;
	if (set->tunnel == STRICT_GENEVE) {
		if (bpf_skb_load_bytes(skb, at, &options, sizeof(options)))
			return HIDDEN;
		at += (options & GENEVE_OPTIONS) * 4;
	}
	at += TUNNEL_HEADER + ETH_HLEN;
	if (bpf_skb_load_bytes(skb, at - sizeof(ethertype), &ethertype, sizeof(ethertype)))
		return HIDDEN;
	return parse(skb, ethertype, at, inner);
}

// What leaves by the device.
SEC("classifier")
int strict_out(struct __sk_buff *skb)
{
	const __u32 first = 0;
	const struct strict_settings *const set = bpf_map_lookup_elem(&settings, &first);
	struct packet packet = {}, inner = {};
	enum found found;

	if (!set)
		return GOES_ON;
	found = parse_outer(skb, &packet);
	if (found == HIDDEN) {
		COUNT(out_plain);
		return TC_ACT_SHOT;
	}
	if (found == NOTHING || is_encrypted(skb, set, &packet))
		return GOES_ON;
	if (is_in(&out_v4, &out_v6, packet.name.destination, packet.name.is_v6)) {
		if (is_neighbour_discovery(skb, &packet))
			return GOES_ON;
		COUNT(out_plain);
		return TC_ACT_SHOT;
	}
	// Later fragments of IPv6 do not say what the packet carries.
	if (!packet.is_first && (packet.name.is_v6 || packet.protocol == IPPROTO_UDP) &&
	    bpf_map_lookup_elem(&fragmented, &packet.name)) {
		COUNT(out_fragment);
		return TC_ACT_SHOT;
	}
	found = parse_inner(skb, set, &packet, &inner);
	if (found == NOTHING ||
	    (found == FOUND && !is_in(&out_v4, &out_v6, inner.name.destination, inner.name.is_v6)))
		return GOES_ON;
	if (packet.has_more)
		bpf_map_update_elem(&fragmented, &packet.name, &first, BPF_ANY);
	COUNT(out_tunnel);
	return TC_ACT_SHOT;
}

// What comes in by the device. Without its first fragment a packet is never put together, so later ones need no look: the
// kernel drops those that overlap.
SEC("classifier")
int strict_in(struct __sk_buff *skb)
{
	const __u32 first = 0;
	const struct strict_settings *const set = bpf_map_lookup_elem(&settings, &first);
	struct packet packet = {}, inner = {};
	enum found found;

	if (!set)
		return GOES_ON;
	found = parse_outer(skb, &packet);
	if (found == NOTHING)
		return GOES_ON;
	if (found == HIDDEN || is_in(&in_v4, &in_v6, packet.name.source, packet.name.is_v6)) {
		COUNT(in_plain);
		return TC_ACT_SHOT;
	}
	found = parse_inner(skb, set, &packet, &inner);
	if (found == HIDDEN ||
	    (found == FOUND && is_in(&in_v4, &in_v6, inner.name.source, inner.name.is_v6))) {
		COUNT(in_tunnel);
		return TC_ACT_SHOT;
	}
	return GOES_ON;
}

char _license[] SEC("license") = "Dual BSD/GPL";
