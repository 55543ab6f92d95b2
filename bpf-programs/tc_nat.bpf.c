// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Gives packets of pods an address of the node on their way out (nat_egress), and turns the answers around on their way
// in (nat_ingress). docs/nat.md says what becomes of every packet; its sections are the files that are included here.
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include "nat_egress.h"
#include "nat_maps.h"
#include "nat_mappings.h"
#include "nat_packet.h"
#include "nat_records.h"
#include "nat_rewrite.h"

#define PASS TC_ACT_UNSPEC
#define FULL_BITS 128

// Whether a prefix of the family contains the address. One of IPv6 that is shorter than 96 bits may contain mapped
// addresses, and is not meant for them.
static __noinline int contains(void *prefixes, const __u8 *address, __u8 is_v6)
{
	struct nat_prefix key = { .bits = FULL_BITS };
	const __u32 *found;

	__builtin_memcpy(key.address, address, 16);
	found = bpf_map_lookup_elem(prefixes, &key);
	return found && *found == (is_v6 ? NAT_IPV6 : NAT_IPV4);
}

// Which address and ports packets of masqueraded sources get; zero: none.
static __always_inline int look_up_rule(struct __sk_buff *skb, const struct nat_packet *packet, struct nat_rule *rule)
{
	const __u32 ifindex = skb->ifindex;
	const struct nat_device *const device = bpf_map_lookup_elem(&devices, &ifindex);

	if (!device || !(packet->is_v6 ? device->has_v6 : device->has_v4))
		return 0;
	__builtin_memcpy(rule->outer, packet->is_v6 ? device->outer_v6 : device->outer_v4, 16);
	rule->first_port = device->first_port;
	rule->last_port = device->last_port;
	return rule->first_port <= rule->last_port;
}

// Whether packets of pods that leave by this device are given an address at all.
static __always_inline int is_masqueraded(struct __sk_buff *skb)
{
	const __u32 ifindex = skb->ifindex;

	return bpf_map_lookup_elem(&devices, &ifindex) != NULL;
}

static __always_inline struct nat_flow leaving_flow(const struct nat_packet *packet)
{
	struct nat_flow flow = {
		.inner_port = packet->source_port,
		.remote_port = is_echo(packet) ? 0 : packet->destination_port,
		.protocol = packet->protocol,
	};

	__builtin_memcpy(flow.inner, packet->source, 16);
	__builtin_memcpy(flow.remote, packet->destination, 16);
	return flow;
}

// The flow of a pod whose packet would be this one's answer.
static __always_inline struct nat_flow answered_flow(const struct nat_packet *packet)
{
	struct nat_flow flow = {
		.inner_port = packet->destination_port,
		.remote_port = is_echo(packet) ? 0 : packet->source_port,
		.protocol = packet->protocol,
	};

	__builtin_memcpy(flow.inner, packet->destination, 16);
	__builtin_memcpy(flow.remote, packet->source, 16);
	return flow;
}

static __always_inline int passed(const struct nat_packet *packet)
{
	note_fragment(packet, packet->source);
	return PASS;
}

// A packet with ports, or a ping, of a pod.
static __noinline int translate_leaving(struct __sk_buff *skb, const struct nat_packet *packet,
					const struct nat_rule *rule)
{
	struct attempt attempt = { .skb = skb, .given.flow = leaving_flow(packet) };
	const struct nat_flow *const flow = &attempt.given.flow;
	struct nat_mapping *mapping;
	struct nat_place place = {};

	begin(&attempt, rule);
	mapping = find(&attempt);
	if (!mapping) {
		if (packet->what != ECHO_REQUEST && !begins_flow(packet) && saw_direct(flow))
			return passed(packet);
		if (packet->what == TCP_SEGMENT && (packet->tcp_flags & TCP_RST))
			return DROP(no_mapping);
		if (packet->what == TCP_SEGMENT && (packet->tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK)) {
			record_direct(flow);
			return passed(packet);
		}
		if (!make(&attempt))
			return TC_ACT_SHOT;
		if (begins_flow(packet))
			bpf_map_delete_elem(&direct, flow);
		mapping = bpf_map_lookup_elem(&mappings, &attempt.key);
	}
	if (mapping)
		saw_leaving(mapping, packet);
	__builtin_memcpy(place.address, attempt.key.outer, 16);
	place.port = attempt.key.outer_port;
	if (rewrite(skb, packet, SOURCE, &place))
		return DROP(malformed);
	note_fragment(packet, place.address);
	COUNT(out_packets);
	return PASS;
}

enum found { TRANSLATED, IS_DIRECT, NO_FLOW, FAILED };

// What an error quotes came to a pod: it becomes what came to the node, which is also said.
//
// Who sent the error is for the callers to ask: of functions that are handed constants, the verifier of Linux 6.1 takes
// away what only another constant leads to.
static __noinline int translate_quoted(struct __sk_buff *skb, const struct nat_packet *packet, struct nat_place *place)
{
	struct attempt attempt = { .skb = skb };
	struct nat_packet quoted;
	struct nat_rule rule;

	if (!read_quoted(skb, packet, &quoted))
		return NO_FLOW;
	if (quoted.what == ECHO_REQUEST)
		return IS_DIRECT;
	if (!(has_egress && egress_address(find_egress(quoted.destination, quoted.source, quoted.is_v6), &rule)) &&
	    (!look_up_rule(skb, packet, &rule) || !contains(&sources, quoted.destination, quoted.is_v6)))
		return NO_FLOW;
	attempt.given.flow = answered_flow(&quoted);
	begin(&attempt, &rule);
	if (!find(&attempt))
		return !is_echo(&quoted) && direct_seen(&attempt.given.flow) ? IS_DIRECT : NO_FLOW;
	__builtin_memcpy(place->address, attempt.key.outer, 16);
	place->port = attempt.key.outer_port;
	return rewrite_quoted(skb, packet, &quoted, DESTINATION, place) ? FAILED : TRANSLATED;
}

static __noinline int error_leaving(struct __sk_buff *skb, const struct nat_packet *packet)
{
	struct nat_place place = {};

	switch (translate_quoted(skb, packet, &place)) {
	case TRANSLATED:
		if (rewrite_error(skb, packet, SOURCE, &place))
			return DROP(malformed);
		COUNT(errors_out);
		return PASS;
	case IS_DIRECT:
		return PASS;
	case NO_FLOW:
		return DROP(no_mapping);
	default:
		return DROP(malformed);
	}
}

static __always_inline int error_of_host(struct __sk_buff *skb, const struct nat_packet *packet)
{
	struct nat_place place = {};

	switch (translate_quoted(skb, packet, &place)) {
	case TRANSLATED:
		COUNT(errors_out);
		return PASS;
	case FAILED:
		return DROP(malformed);
	default:
		return PASS;
	}
}

static __noinline int later_fragment_leaving(struct __sk_buff *skb, const struct nat_packet *packet)
{
	const struct nat_fragment *const first = first_fragment(packet);
	struct nat_place place = {};

	if (!first)
		return DROP(fragment_lost);
	__builtin_memcpy(place.address, first->address, 16);
	if (is_same(place.address, packet->source))
		return PASS;
	if (write_address(skb, packet, SOURCE, place.address))
		return DROP(malformed);
	COUNT(out_packets);
	return PASS;
}

// A packet that leaves with what the rule says.
static __always_inline int leaving(struct __sk_buff *skb, const struct nat_packet *packet, const struct nat_rule *rule)
{
	if (packet->fragment == FIRST)
		forget_fragment(packet);
	if (packet->what == UNREADABLE)
		return DROP(malformed);
	if (packet->fragment == LATER)
		return later_fragment_leaving(skb, packet);
	if (packet->what == UNSUPPORTED || (packet->what == ICMP_ERROR && packet->fragment != WHOLE))
		return DROP(unsupported);
	if (packet->what == ICMP_ERROR)
		return error_leaving(skb, packet);
	if (packet->what == ECHO_REPLY)
		return passed(packet);
	return translate_leaving(skb, packet, rule);
}

// Whether the host's packet may be from a port that was given away.
static __always_inline int may_be_given(struct __sk_buff *skb, const struct nat_packet *packet, __u32 port)
{
	struct nat_rule rule;

	if (look_up_rule(skb, packet, &rule) && is_same(rule.outer, packet->source) && port >= rule.first_port &&
	    port <= rule.last_port)
		return 1;
	return has_egress && bpf_map_lookup_elem(&addresses, packet->source);
}

// The host takes back a port that it uses itself.
static __noinline int leaving_of_host(struct __sk_buff *skb, const struct nat_packet *packet)
{
	const struct nat_flow flow = leaving_flow(packet);
	const __u32 port = bpf_ntohs(flow.inner_port);
	struct nat_mapping *mapping;
	struct nat_key key = {};
	__u64 seen_ns;

	if (packet->what != TCP_SEGMENT && packet->what != UDP_PACKET && packet->what != ECHO_REQUEST)
		return PASS;
	if (!may_be_given(skb, packet, port))
		return PASS;
	__builtin_memcpy(key.remote, flow.remote, 16);
	__builtin_memcpy(key.outer, flow.inner, 16);
	key.remote_port = flow.remote_port;
	key.outer_port = flow.inner_port;
	key.protocol = flow.protocol;
	mapping = bpf_map_lookup_elem(&mappings, &key);
	if (!mapping)
		return PASS;
	seen_ns = mapping->seen_ns;
	if (was_alive(&key, mapping, seen_ns) && yield_port(&key, mapping, seen_ns))
		COUNT(yielded);
	return PASS;
}

// Whether the packet came in by a device; others are of the host's own sockets.
static __always_inline int is_forwarded(const struct __sk_buff *skb)
{
	return skb->ingress_ifindex != 0;
}

// What has another source than pods.
static __always_inline int leaving_of_others(struct __sk_buff *skb, const struct nat_packet *packet)
{
	if (packet->fragment == LATER)
		return PASS;
	if (packet->what == ICMP_ERROR)
		return packet->fragment == WHOLE ? error_of_host(skb, packet) : PASS;
	// A packet that came in, and has an outer address, was given it on another device.
	return is_forwarded(skb) ? PASS : leaving_of_host(skb, packet);
}

// Zero: no packet that is looked at.
static __always_inline int read_frame(struct __sk_buff *skb, struct nat_packet *packet)
{
	if (skb->vlan_present)
		return 0;
	__builtin_memset(packet, 0, sizeof(*packet));
	packet->l3 = sizeof(struct ethhdr);
	packet->is_v6 = skb->protocol == bpf_htons(ETH_P_IPV6);
	if (!packet->is_v6 && skb->protocol != bpf_htons(ETH_P_IP))
		return 0;
	return read_packet(skb, packet, sizeof(struct tcphdr));
}

SEC("classifier")
int nat_egress(struct __sk_buff *skb)
{
	const struct nat_egress_rule *found = NULL;
	struct nat_packet packet;
	struct nat_rule rule;

	if (!read_frame(skb, &packet))
		return PASS;
	if (has_egress && is_forwarded(skb)) {
		found = find_egress(packet.source, packet.destination, packet.is_v6);
		if (found && found->what == NAT_TUNNEL)
			return send_in_tunnel(skb, found);
		if (found && found->what == NAT_NEXT_HOP)
			return send_to_next_hop(skb, found);
		if (found && found->what == NAT_DROP)
			return DROP(no_gateway);
	}
	if (!egress_address(found, &rule)) {
		if (!contains(&sources, packet.source, packet.is_v6))
			return leaving_of_others(skb, &packet);
		if (contains(&exclude, packet.destination, packet.is_v6) || !is_masqueraded(skb))
			return PASS;
		if (!look_up_rule(skb, &packet, &rule))
			return DROP(no_address);
	}
	return leaving(skb, &packet, &rule);
}

static __noinline int translate_error_coming(struct __sk_buff *skb, const struct nat_packet *packet)
{
	const struct nat_mapping *mapping;
	struct nat_place place = {};
	struct nat_packet quoted;
	struct nat_key key = {};

	if (!read_quoted(skb, packet, &quoted) || quoted.what == ECHO_REPLY ||
	    !is_same(quoted.source, packet->destination))
		return PASS;
	__builtin_memcpy(key.remote, quoted.destination, 16);
	__builtin_memcpy(key.outer, quoted.source, 16);
	key.remote_port = is_echo(&quoted) ? 0 : quoted.destination_port;
	key.outer_port = quoted.source_port;
	key.protocol = quoted.protocol;
	mapping = bpf_map_lookup_elem(&mappings, &key);
	if (!mapping || !is_alive(&key, mapping))
		return PASS;
	__builtin_memcpy(place.address, mapping->inner, 16);
	place.port = mapping->inner_port;
	if (rewrite_quoted(skb, packet, &quoted, SOURCE, &place) || rewrite_error(skb, packet, DESTINATION, &place))
		return DROP(malformed);
	COUNT(errors_in);
	return PASS;
}

static __always_inline int later_fragment_coming(struct __sk_buff *skb, const struct nat_packet *packet)
{
	const struct nat_fragment *const first = first_fragment(packet);
	struct nat_place place = {};

	if (!first)
		return PASS;
	__builtin_memcpy(place.address, first->address, 16);
	if (write_address(skb, packet, DESTINATION, place.address))
		return DROP(malformed);
	COUNT(in_packets);
	return PASS;
}

// A packet with ports, or a ping's answer, to an outer address.
static __noinline int translate_coming(struct __sk_buff *skb, const struct nat_packet *packet)
{
	struct nat_mapping *mapping;
	struct nat_place place = {};
	struct nat_key key = {};

	__builtin_memcpy(key.remote, packet->source, 16);
	__builtin_memcpy(key.outer, packet->destination, 16);
	key.remote_port = is_echo(packet) ? 0 : packet->source_port;
	key.outer_port = packet->destination_port;
	key.protocol = packet->protocol;
	mapping = bpf_map_lookup_elem(&mappings, &key);
	if (!mapping || !is_alive(&key, mapping))
		return PASS;
	saw_coming(mapping, packet);
	__builtin_memcpy(place.address, mapping->inner, 16);
	place.port = mapping->inner_port;
	if (rewrite(skb, packet, DESTINATION, &place))
		return DROP(malformed);
	note_fragment(packet, place.address);
	COUNT(in_packets);
	return PASS;
}

// Whether the flow has a mapping by a rule.
static __noinline int is_translated(struct __sk_buff *skb, const struct nat_flow *flow, const struct nat_rule *rule)
{
	struct attempt attempt = { .skb = skb, .given.flow = *flow };

	begin(&attempt, rule);
	return find(&attempt) != NULL;
}

// Somebody sent to a pod's own address, unless it is an answer that was turned around: on another device, or by the gateway
// that has the pod's packets.
static __noinline int came_for_pod(struct __sk_buff *skb, const struct nat_packet *packet)
{
	const struct nat_flow flow = answered_flow(packet);
	const struct nat_egress_rule *found = NULL;
	struct nat_rule rule;

	if (has_egress)
		found = find_egress(packet->destination, packet->source, packet->is_v6);
	if (found && found->what != NAT_TRANSLATE && found->what != NAT_PASS)
		return 0;
	if (saw_direct(&flow))
		return 0;
	if (egress_address(found, &rule) && is_translated(skb, &flow, &rule))
		return 0;
	if (look_up_rule(skb, packet, &rule) && is_translated(skb, &flow, &rule))
		return 0;
	record_direct(&flow);
	return 0;
}

SEC("classifier")
int nat_ingress(struct __sk_buff *skb)
{
	struct nat_packet packet;

	if (has_egress)
		remember_sender(skb);
	if (!read_frame(skb, &packet))
		return PASS;
	if (bpf_map_lookup_elem(&addresses, packet.destination)) {
		if (packet.fragment == FIRST)
			forget_fragment(&packet);
		if (packet.fragment == LATER)
			return later_fragment_coming(skb, &packet);
		if (packet.what == ICMP_ERROR)
			return packet.fragment == WHOLE ? translate_error_coming(skb, &packet) : PASS;
		if (packet.what != TCP_SEGMENT && packet.what != UDP_PACKET && packet.what != ECHO_REPLY)
			return PASS;
		return translate_coming(skb, &packet);
	}
	if ((packet.what == UDP_PACKET || (packet.what == TCP_SEGMENT && !(packet.tcp_flags & TCP_RST))) &&
	    packet.fragment != LATER && contains(&sources, packet.destination, packet.is_v6) &&
	    !contains(&exclude, packet.source, packet.is_v6))
		came_for_pod(skb, &packet);
	return PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
