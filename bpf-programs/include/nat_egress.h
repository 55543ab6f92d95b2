// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The rules of egress policies: which one a packet has, and sending it to the gateway. Section 10 of docs/nat.md.
#ifndef NETD_NAT_EGRESS_H
#define NETD_NAT_EGRESS_H

#include <linux/pkt_cls.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "nat_maps.h"
#include "nat_mappings.h"
#include "nat_packet.h"

#define CLASS_BITS 32
#define ADDRESS_BITS 128
#define OUTER_TTL 64
#define FAMILY_INET 2
#define FAMILY_INET6 10

// The rule for a packet of this source to this destination, if there is one.
static __noinline const struct nat_egress_rule *find_egress(const __u8 *source, const __u8 *destination, __u8 is_v6)
{
	const __u32 family = is_v6 ? NAT_IPV6 : NAT_IPV4;
	struct nat_prefix prefix = { .bits = ADDRESS_BITS };
	struct nat_egress_key key = { .bits = CLASS_BITS + ADDRESS_BITS };
	const struct nat_egress_rule *rule;
	const struct nat_class *class;

	__builtin_memcpy(prefix.address, source, 16);
	class = bpf_map_lookup_elem(&egress_sources, &prefix);
	if (!class || class->family != family)
		return NULL;
	key.class = class->class;
	__builtin_memcpy(key.address, destination, 16);
	rule = bpf_map_lookup_elem(&egress_rules, &key);
	return rule && rule->family == family ? rule : NULL;
}

// What the rule gives to a packet that leaves here; zero: it does not leave here with an egress address.
static __always_inline int egress_address(const struct nat_egress_rule *found, struct nat_rule *rule)
{
	if (!found || found->what != NAT_TRANSLATE)
		return 0;
	__builtin_memcpy(rule->outer, found->address, 16);
	rule->first_port = found->first_port;
	rule->last_port = found->last_port;
	return 1;
}

// What is remembered of an Ethernet address: of a machine's neighbours, two seldom have the same.
static __always_inline __u16 short_of(const __u8 mac[ETH_ALEN])
{
	__u64 whole = 0;

	__builtin_memcpy(&whole, mac, ETH_ALEN);
	return (whole * HASH_FACTOR) >> 48;
}

// Who sent a frame is lost when it is routed; what is written here comes through.
static __always_inline void remember_sender(struct __sk_buff *skb)
{
	__u8 mac[ETH_ALEN] = {};

	bpf_skb_load_bytes(skb, offsetof(struct ethhdr, h_source), mac, ETH_ALEN);
	skb->tc_index = short_of(mac);
}

static __always_inline int send_in_tunnel(struct __sk_buff *skb, const struct nat_egress_rule *rule)
{
	struct bpf_tunnel_key key = { .tunnel_id = rule->vni, .tunnel_ttl = OUTER_TTL };
	// Over IPv4 a checksum of UDP is not needed, over IPv6 it is (RFC 8200, section 8.1).
	const __u64 flags = rule->is_v6 ? BPF_F_TUNINFO_IPV6 : BPF_F_ZERO_CSUM_TX;

	// Somebody else has sent it here as to the gateway. By which end it came, nobody knows any more.
	if (skb->ingress_ifindex == rule->ifindex)
		return DROP(looped);
	if (rule->is_v6) {
		__builtin_memcpy(key.remote_ipv6, rule->address, 16);
	} else {
		__be32 address;

		__builtin_memcpy(&address, rule->address + 12, 4);
		key.remote_ipv4 = bpf_ntohl(address);
	}
	if (bpf_skb_set_tunnel_key(skb, &key, sizeof(key), flags))
		return TC_ACT_SHOT;
	COUNT(steered);
	return bpf_redirect(rule->ifindex, 0);
}

// The Ethernet address of the next hop, as the kernel knows it now; zero: it does not.
static __always_inline int next_hop_mac(struct __sk_buff *skb, const struct nat_egress_rule *rule, __u8 mac[ETH_ALEN])
{
	struct bpf_fib_lookup hop = {
		.family = rule->is_v6 ? FAMILY_INET6 : FAMILY_INET,
		.ifindex = rule->ifindex,
	};
	long error;

	if (rule->is_v6)
		__builtin_memcpy(hop.ipv6_dst, rule->address, 16);
	else
		__builtin_memcpy(&hop.ipv4_dst, rule->address + 12, 4);
	error = bpf_fib_lookup(skb, &hop, sizeof(hop), BPF_FIB_LOOKUP_DIRECT | BPF_FIB_LOOKUP_OUTPUT);
	if ((error && error != BPF_FIB_LKUP_RET_FRAG_NEEDED) || hop.ifindex != rule->ifindex)
		return 0;
	__builtin_memcpy(mac, hop.dmac, ETH_ALEN);
	return 1;
}

// A packet on its way to the next hop. One that had to wait for the next hop's Ethernet address may have been given that of
// another neighbour, by the node's own routes.
static __noinline int on_the_way(struct __sk_buff *skb, const struct nat_egress_rule *rule)
{
	__u8 expected[ETH_ALEN] = {}, mac[ETH_ALEN] = {};

	if (bpf_skb_load_bytes(skb, offsetof(struct ethhdr, h_dest), mac, ETH_ALEN) ||
	    !next_hop_mac(skb, rule, expected) || __builtin_memcmp(mac, expected, ETH_ALEN))
		return DROP(no_gateway);
	if (skb->ingress_ifindex == skb->ifindex && skb->tc_index == short_of(mac))
		return DROP(looped);
	return TC_ACT_UNSPEC;
}

// The packet meets this program again where it leaves by the same device; it says so by a number that nobody can guess, in
// a place that only this kernel's programs write.
static __always_inline int send_to_next_hop(struct __sk_buff *skb, const struct nat_egress_rule *rule)
{
	struct bpf_redir_neigh hop = { .nh_family = rule->is_v6 ? FAMILY_INET6 : FAMILY_INET };
	const __u32 zero = 0;
	const struct nat_settings *const set = bpf_map_lookup_elem(&settings, &zero);
	__u64 secret;

	if (!set)
		return TC_ACT_SHOT;
	secret = set->seed * HASH_FACTOR;
	if (skb->cb[0] == (__u32)secret && skb->cb[1] == secret >> 32)
		return on_the_way(skb, rule);
	skb->cb[0] = (__u32)secret;
	skb->cb[1] = secret >> 32;
	if (rule->is_v6)
		__builtin_memcpy(hop.ipv6_nh, rule->address, 16);
	else
		__builtin_memcpy(&hop.ipv4_nh, rule->address + 12, 4);
	COUNT(steered);
	return bpf_redirect_neigh(rule->ifindex, &hop, sizeof(hop), 0);
}

#endif
