// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The backend's side: takes the outer header off IPv4 or IPv6 in IPv4 or IPv6, with or without UDP between them, and
// gives the inner packet to the kernel. Only tunnels to this node, from known balancers, with packets for known
// addresses; docs/datapath.md says what becomes of the others.
#include "decap_abi.h"
#include "parse.h"

// IPv4 addresses as IPv6 ones: ::ffff:0:0/96.
#define MAPPED bpf_htonl(0xffff)

// The two bits of congestion notification (RFC 3168).
#define ECN_MASK 3
#define ECN_NOT_CAPABLE 0
#define ECN_CAPABLE_1 1
#define ECN_CAPABLE_0 2
#define ECN_CONGESTED 3

// Entries take memory only when they are there.
#define PREFIXES_MAX (1 << 20)

struct prefix_map {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, PREFIXES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
	__type(key, struct decap_prefix);
	__type(value, __u32);
};

// Who may send tunnels, to which addresses of this node, and for whom the packets in them may be.
struct prefix_map sources SEC(".maps");
struct prefix_map own SEC(".maps");
struct prefix_map taken SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct decap_settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct decap_counts);
} counts SEC(".maps");

// A tunnel's packet, taken apart.
struct tunnel {
	struct decap_prefix source;
	struct decap_prefix destination;
	// The inner packet's.
	struct decap_prefix receiver;
	// From the beginning of the frame to the outer header, and from there to the inner one.
	__u32 l2_bytes;
	__u32 outer_bytes;
	// What the outer header says that it and what follows it take together; and where, by all lengths, the inner packet
	// ends at the latest, from the outer header on.
	__u32 length;
	__u32 inner_end;
	// DECAP_IPV4 or DECAP_IPV6.
	__u8 outer_family;
	__u8 inner_family;
	__u8 outer_ecn;
	__u8 protocol;
};

// A number that is less than 128, which the verifier does not know of numbers that were put away.
static __always_inline __u64 less_than_128(__u64 number)
{
	asm volatile("%0 &= 127" : "+r"(number));
	return number;
}

static __always_inline void map_v4(struct decap_prefix *prefix, __be32 address)
{
	__u32 *const words = (__u32 *)prefix->address;

	prefix->bits = 128;
	words[0] = words[1] = 0;
	words[2] = MAPPED;
	words[3] = address;
}

static __always_inline void copy_v6(struct decap_prefix *prefix, const struct in6_addr *address)
{
	prefix->bits = 128;
	__builtin_memcpy(prefix->address, address, sizeof(prefix->address));
}

// A prefix of IPv6 that is shorter than 96 bits may contain the mapped addresses, and is not meant for them.
static __always_inline int contains(void *prefixes, const struct decap_prefix *address, __u8 family)
{
	const __u32 *const found = bpf_map_lookup_elem(prefixes, address);

	return found && *found == family;
}

static __always_inline int outer_v4(struct tunnel *tunnel, const struct iphdr *ip, const void *end)
{
	if ((const void *)(ip + 1) > end || *(const __u8 *)ip != IPV4_PLAIN || (ip->frag_off & IPV4_MF_OR_OFFSET))
		return 0;
	map_v4(&tunnel->source, ip->saddr);
	map_v4(&tunnel->destination, ip->daddr);
	tunnel->outer_bytes = sizeof(*ip);
	tunnel->length = tunnel->inner_end = length_of(ip->tot_len);
	tunnel->outer_family = DECAP_IPV4;
	tunnel->outer_ecn = ip->tos & ECN_MASK;
	tunnel->protocol = ip->protocol;
	return 1;
}

static __always_inline int outer_v6(struct tunnel *tunnel, const struct ipv6hdr *ip, const void *end)
{
	if ((const void *)(ip + 1) > end || ip->version != 6)
		return 0;
	copy_v6(&tunnel->source, &ip->saddr);
	copy_v6(&tunnel->destination, &ip->daddr);
	tunnel->outer_bytes = sizeof(*ip);
	tunnel->length = tunnel->inner_end = length_of(ip->payload_len) + sizeof(*ip);
	tunnel->outer_family = DECAP_IPV6;
	tunnel->outer_ecn = ip->flow_lbl[0] >> 4 & ECN_MASK;
	tunnel->protocol = ip->nexthdr;
	return 1;
}

// Whether a frame is a tunnel's, by its outer header alone; its inner packet's family is not known yet if it is UDP.
static __always_inline int outer(struct tunnel *tunnel, const struct xdp_md *ctx)
{
	const struct ethhdr *const eth = frame(ctx);
	const void *const end = frame_end(ctx);
	const void *ip;
	__be16 type;

	tunnel->l2_bytes = sizeof(*eth);
	if ((const void *)(eth + 1) + 4 > end)
		return 0;
	type = eth->h_proto;
	if (type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD)) {
		type = *(const __be16 *)((const void *)(eth + 1) + 2);
		tunnel->l2_bytes += 4;
	}
	ip = (const void *)eth + tunnel->l2_bytes;
	if (type == bpf_htons(ETH_P_IP)) {
		if (!outer_v4(tunnel, ip, end))
			return 0;
	} else if (type != bpf_htons(ETH_P_IPV6) || !outer_v6(tunnel, ip, end)) {
		return 0;
	}
	tunnel->inner_family = tunnel->protocol == IPPROTO_IPIP ? DECAP_IPV4 : DECAP_IPV6;
	return tunnel->protocol == IPPROTO_IPIP || tunnel->protocol == IPPROTO_IPV6 || tunnel->protocol == IPPROTO_UDP;
}

// GUE, variant 1: the first bits after the UDP header are the inner packet's version.
static __always_inline int skip_gue(struct tunnel *tunnel, const struct udphdr *udp, const void *end)
{
	const __u8 *const first = (const void *)(udp + 1);
	const __u32 zero = 0;
	const struct decap_settings *const set = bpf_map_lookup_elem(&settings, &zero);

	if ((const void *)(first + 1) > end || !set || udp->dest != set->gue_port ||
	    (*first >> 4 != 4 && *first >> 4 != 6))
		return 0;
	tunnel->inner_family = *first >> 4;
	tunnel->inner_end = tunnel->outer_bytes + length_of(udp->len);
	// What is longer than what it is in has no end.
	if (tunnel->inner_end > tunnel->length)
		tunnel->inner_end = 0;
	tunnel->outer_bytes += sizeof(*udp);
	return 1;
}

// For whom the inner packet is, as far as the frame goes.
static __always_inline int receiver(struct tunnel *tunnel, const void *ip, const void *end)
{
	const struct iphdr *const v4 = ip;
	const struct ipv6hdr *const v6 = ip;

	if (tunnel->inner_family == DECAP_IPV4) {
		if ((const void *)(v4 + 1) > end || v4->version != 4)
			return 0;
		map_v4(&tunnel->receiver, v4->daddr);
		return 1;
	}
	if ((const void *)(v6 + 1) > end || v6->version != 6)
		return 0;
	copy_v6(&tunnel->receiver, &v6->daddr);
	return 1;
}

// How long the inner packet is; zero if it is not whole in the outer one, or that not in the frame.
static __always_inline __u32 whole(const struct tunnel *tunnel, const void *outer, const void *ip, const void *end)
{
	const struct iphdr *const v4 = ip;
	const struct ipv6hdr *const v6 = ip;
	__u64 length = tunnel->length;

	// As in less_than_128: two bytes, and a header.
	asm volatile("%0 &= 131071" : "+r"(length));
	if (outer + length > end)
		return 0;
	if (tunnel->inner_family == DECAP_IPV4) {
		if ((const void *)(v4 + 1) > end)
			return 0;
		length = length_of(v4->tot_len);
		if (v4->ihl < 5 || length < v4->ihl * 4u)
			return 0;
	} else {
		if ((const void *)(v6 + 1) > end)
			return 0;
		length = length_of(v6->payload_len) + sizeof(*v6);
	}
	return tunnel->outer_bytes + length <= tunnel->inner_end ? length : 0;
}

// The inner packet's bits after RFC 6040, section 4.2; -1: the packet has to be dropped.
static __always_inline int ecn_after(__u8 inner, __u8 outer)
{
	if (outer == ECN_CONGESTED)
		return inner == ECN_NOT_CAPABLE ? -1 : ECN_CONGESTED;
	if (outer == ECN_CAPABLE_1 && inner == ECN_CAPABLE_0)
		return ECN_CAPABLE_1;
	return inner;
}

static __always_inline int hand_on_ecn_v4(__u8 outer_ecn, struct iphdr *ip, const void *end)
{
	__u32 sum;
	__u8 tos;
	int ecn;

	if ((const void *)(ip + 1) > end)
		return 0;
	ecn = ecn_after(ip->tos & ECN_MASK, outer_ecn);
	if (ecn < 0)
		return 0;
	if (ecn == (ip->tos & ECN_MASK))
		return 1;
	// RFC 1624, equation 3, on the word whose second byte is the TOS.
	tos = (ip->tos & ~ECN_MASK) | ecn;
	sum = (__u16)~ip->check + (__u16)~bpf_htons(ip->tos) + bpf_htons(tos);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = ~((sum & 0xffff) + (sum >> 16));
	ip->tos = tos;
	return 1;
}

static __always_inline int hand_on_ecn_v6(__u8 outer_ecn, struct ipv6hdr *ip, const void *end)
{
	int ecn;

	if ((const void *)(ip + 1) > end)
		return 0;
	ecn = ecn_after(ip->flow_lbl[0] >> 4 & ECN_MASK, outer_ecn);
	if (ecn < 0)
		return 0;
	ip->flow_lbl[0] = (ip->flow_lbl[0] & ~(ECN_MASK << 4)) | ecn << 4;
	return 1;
}

// Takes everything out that is between the Ethernet header, with its tag, and the inner packet.
static __always_inline int strip(struct xdp_md *ctx, const struct tunnel *tunnel)
{
	const int is_tagged = tunnel->l2_bytes != sizeof(struct ethhdr);
	const __be16 type = bpf_htons(tunnel->inner_family == DECAP_IPV4 ? ETH_P_IP : ETH_P_IPV6);
	struct ethhdr *eth = frame(ctx);
	struct ethhdr kept;
	__be16 tag;

	if ((void *)(eth + 1) + 4 > frame_end(ctx))
		return XDP_DROP;
	kept = *eth;
	tag = *(__be16 *)(eth + 1);
	if (bpf_xdp_adjust_head(ctx, (int)tunnel->outer_bytes))
		return XDP_DROP;
	eth = frame(ctx);
	if ((void *)(eth + 1) + 4 > frame_end(ctx))
		return XDP_DROP;
	*eth = kept;
	if (is_tagged) {
		((__be16 *)(eth + 1))[0] = tag;
		((__be16 *)(eth + 1))[1] = type;
	} else {
		eth->h_proto = type;
	}
	return XDP_PASS;
}

SEC("xdp")
int xdp_decap(struct xdp_md *ctx)
{
	const void *const end = frame_end(ctx);
	const __u32 cpu = bpf_get_smp_processor_id();
	struct tunnel tunnel = {};
	struct decap_counts *count;
	int is_known, is_ours;
	const void *begin;
	__u32 length;
	void *inner;

	if (!outer(&tunnel, ctx))
		return XDP_PASS;
	begin = frame(ctx) + less_than_128(tunnel.l2_bytes);
	if (tunnel.protocol == IPPROTO_UDP && !skip_gue(&tunnel, begin + less_than_128(tunnel.outer_bytes), end))
		return XDP_PASS;
	count = bpf_map_lookup_elem(&counts, &cpu);
	if (!count || !contains(&own, &tunnel.destination, tunnel.outer_family))
		return XDP_PASS;
	is_known = contains(&sources, &tunnel.source, tunnel.outer_family);
	inner = (void *)begin + less_than_128(tunnel.outer_bytes);
	if (!receiver(&tunnel, inner, end)) {
		if (!is_known)
			return XDP_PASS;
		count->malformed += 1;
		return XDP_DROP;
	}
	is_ours = contains(&taken, &tunnel.receiver, tunnel.inner_family);
	if (!is_ours) {
		count->not_taken += is_known;
		return XDP_PASS;
	}
	if (!is_known) {
		count->strangers += 1;
		return XDP_DROP;
	}
	length = whole(&tunnel, begin, inner, end);
	if (!length) {
		count->malformed += 1;
		return XDP_DROP;
	}
	if (tunnel.inner_family == DECAP_IPV4 ? !hand_on_ecn_v4(tunnel.outer_ecn, inner, end)
					      : !hand_on_ecn_v6(tunnel.outer_ecn, inner, end)) {
		count->congested += 1;
		return XDP_DROP;
	}
	count->packets += 1;
	count->bytes += length;
	return strip(ctx, &tunnel);
}

char _license[] SEC("license") = "Dual BSD/GPL";
