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

static __always_inline int send_in_tunnel(struct __sk_buff *skb, const struct nat_egress_rule *rule)
{
	struct bpf_tunnel_key key = { .tunnel_id = rule->vni, .tunnel_ttl = OUTER_TTL };
	// Over IPv4 a checksum of UDP is not needed, over IPv6 it is (RFC 8200, section 8.1).
	const __u64 flags = rule->is_v6 ? BPF_F_TUNINFO_IPV6 : BPF_F_ZERO_CSUM_TX;

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
		return TC_ACT_UNSPEC;
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
