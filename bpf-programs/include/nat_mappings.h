// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The core of address translation: the mapping of a flow is found or made, for whatever address and range of ports a rule
// has chosen. Section 3 of docs/nat.md.
#ifndef NETD_NAT_MAPPINGS_H
#define NETD_NAT_MAPPINGS_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "clock.h"
#include "nat_maps.h"
#include "nat_packet.h"

#define CANDIDATES 128
// Primes above every size of a range: with each of them as a step, every port is met before one is met again.
#define STEPS 8
#define HASH_FACTOR 0x9E3779B97F4A7C15ull

// Seconds.
#define TCP_LIVES 7440
#define TCP_OPENS_OR_CLOSES 240
#define TCP_CAN_BE_TAKEN 10
#define UDP_LIVES 300
#define UDP_UNANSWERED 120
#define UDP_QUESTION 30
#define ECHO_LIVES 60

#define QUESTIONS_PORT bpf_htons(53)

// The time in a record is this coarse, so that not every packet writes it.
#define SEEN_EVERY_NS NS_PER_SECOND
// How many mappings are looked at in turn for one packet that finds no room: some tens of microseconds.
#define SWEEP_STEPS 512

// Times of mappings that are over whatever the clock says. BEING_REMOVED: by a CPU that nobody else may come before.
#define BEING_REMOVED 0
#define IS_OVER 1

#define EEXIST 17
#define E2BIG 7

static const __u32 steps[STEPS] = { 65537, 92821, 131071, 174763, 524287, 611953, 746773, 999983 };

// What a rule says.
struct nat_rule {
	__u8 outer[16];
	__u32 first_port;
	__u32 last_port;
};

static __always_inline int is_closing(__u8 state)
{
	return (state & NAT_RESET) || (state & (NAT_FIN_OUT | NAT_FIN_IN)) == (NAT_FIN_OUT | NAT_FIN_IN);
}

static __always_inline __u64 lifetime_s(__u8 protocol, __be16 remote_port, __u8 state)
{
	if (protocol == IPPROTO_TCP)
		return (state & NAT_ANSWERED) && !is_closing(state) ? TCP_LIVES : TCP_OPENS_OR_CLOSES;
	if (protocol != IPPROTO_UDP)
		return ECHO_LIVES;
	if (remote_port == QUESTIONS_PORT)
		return UDP_QUESTION;
	return state & NAT_ANSWERED ? UDP_LIVES : UDP_UNANSWERED;
}

static __always_inline int was_alive(const struct nat_key *key, const struct nat_mapping *mapping, __u64 seen_ns)
{
	return seen_ns > IS_OVER &&
	       ns_since(seen_ns) <= lifetime_s(key->protocol, key->remote_port, mapping->state) * NS_PER_SECOND;
}

static __always_inline int is_alive(const struct nat_key *key, const struct nat_mapping *mapping)
{
	return was_alive(key, mapping, mapping->seen_ns);
}

// Gives the mapping another time, if it has this one still: of several CPUs, one can.
static __always_inline int set_seen(struct nat_mapping *mapping, __u64 before, __u64 after)
{
	return __sync_val_compare_and_swap(&mapping->seen_ns, before, after) == before;
}

static __always_inline int belongs_to(const struct nat_mapping *mapping, const struct nat_flow *flow)
{
	return mapping->inner_port == flow->inner_port && is_same(mapping->inner, flow->inner);
}

// Removes what names the port of a mapping that is being removed.
static __noinline int forget_port(const struct nat_key *key, const struct nat_mapping *mapping)
{
	struct nat_given given = {
		.flow.inner_port = mapping->inner_port,
		.flow.remote_port = key->remote_port,
		.flow.protocol = key->protocol,
	};
	const struct nat_port *port;

	__builtin_memcpy(given.flow.inner, mapping->inner, 16);
	__builtin_memcpy(given.flow.remote, key->remote, 16);
	__builtin_memcpy(given.outer, key->outer, 16);
	port = bpf_map_lookup_elem(&moved, &given);
	// The flow may be elsewhere by now, and that is what the entry names then.
	if (port && port->port == key->outer_port)
		bpf_map_delete_elem(&moved, &given);
	return 0;
}

// Candidates, and what became of trying them.
struct attempt {
	struct __sk_buff *skb;
	struct nat_given given;
	struct nat_key key;
	__u32 first;
	__u32 size;
	__u32 start;
	__u32 step;
	__u8 has_own_port;
	__u8 is_full;
	__u8 is_made;
	__u8 can_be_taken;
	// Of what can be taken, or of what was found or made.
	__be16 port;
	__be16 zero;
};

// Begins an attempt for the flow that is in it.
static __always_inline void begin(struct attempt *attempt, const struct nat_rule *rule)
{
	const struct nat_flow *const flow = &attempt->given.flow;
	const __u32 zero = 0;
	const struct nat_settings *const set = bpf_map_lookup_elem(&settings, &zero);
	const __u64 *const words = (const __u64 *)flow;
	const __u32 own = bpf_ntohs(flow->inner_port);
	__u64 hash = set ? set->seed : 0;

#pragma unroll
	for (int word = 0; word < 5; word++) {
		hash = (hash ^ words[word]) * HASH_FACTOR;
		hash ^= hash >> 32;
	}
	attempt->first = rule->first_port;
	attempt->size = rule->last_port - rule->first_port + 1;
	attempt->start = ((hash >> 32) * attempt->size) >> 32;
	attempt->step = steps[hash & (STEPS - 1)];
	attempt->has_own_port = own >= rule->first_port && own <= rule->last_port;
	__builtin_memcpy(attempt->given.outer, rule->outer, 16);
	__builtin_memcpy(attempt->key.remote, flow->remote, 16);
	__builtin_memcpy(attempt->key.outer, rule->outer, 16);
	attempt->key.remote_port = flow->remote_port;
	attempt->key.protocol = flow->protocol;
}

static __always_inline __be16 candidate(const struct attempt *attempt, __u32 number)
{
	__u32 place;

	if (attempt->has_own_port && number == 0)
		return attempt->given.flow.inner_port;
	place = attempt->start + (number - attempt->has_own_port) * attempt->step;
	// A size is never zero; the verifier cannot know.
	return bpf_htons(attempt->first + place % (attempt->size | !attempt->size));
}

static __always_inline struct nat_mapping *own_mapping(const struct nat_key *key, const struct nat_flow *flow)
{
	struct nat_mapping *const mapping = bpf_map_lookup_elem(&mappings, key);

	return mapping && belongs_to(mapping, flow) && is_alive(key, mapping) ? mapping : NULL;
}

// The live mapping of the flow that an attempt was begun for; the attempt's key becomes its.
static __always_inline struct nat_mapping *find(struct attempt *attempt)
{
	struct nat_mapping *mapping;
	const struct nat_port *port;

	attempt->key.outer_port = candidate(attempt, 0);
	mapping = own_mapping(&attempt->key, &attempt->given.flow);
	if (mapping)
		return mapping;
	port = bpf_map_lookup_elem(&moved, &attempt->given);
	if (!port)
		return NULL;
	attempt->key.outer_port = port->port;
	return own_mapping(&attempt->key, &attempt->given.flow);
}

static __always_inline int is_socket_there(struct __sk_buff *skb, const struct nat_key *key)
{
	struct bpf_sock_tuple tuple = {};
	const __u32 *const remote = (const __u32 *)key->remote, *const outer = (const __u32 *)key->outer;
	__u32 bytes = sizeof(tuple.ipv4);
	struct bpf_sock *socket;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		tuple.ipv4.saddr = remote[3];
		tuple.ipv4.daddr = outer[3];
		tuple.ipv4.sport = key->remote_port;
		tuple.ipv4.dport = key->outer_port;
	} else {
		bytes = sizeof(tuple.ipv6);
		__builtin_memcpy(tuple.ipv6.saddr, remote, 16);
		__builtin_memcpy(tuple.ipv6.daddr, outer, 16);
		tuple.ipv6.sport = key->remote_port;
		tuple.ipv6.dport = key->outer_port;
	}
	if (key->protocol == IPPROTO_TCP)
		socket = bpf_skc_lookup_tcp(skb, &tuple, bytes, BPF_F_CURRENT_NETNS, 0);
	else if (key->protocol == IPPROTO_UDP)
		socket = bpf_sk_lookup_udp(skb, &tuple, bytes, BPF_F_CURRENT_NETNS, 0);
	else
		return 0;
	if (!socket)
		return 0;
	bpf_sk_release(socket);
	return 1;
}

// Sets the mapping at the attempt's key.
static __always_inline long set_mapping(struct attempt *attempt, __u64 flags)
{
	struct nat_mapping mapping = {
		.seen_ns = now_ns(),
		.inner_port = attempt->given.flow.inner_port,
	};

	__builtin_memcpy(mapping.inner, attempt->given.flow.inner, 16);
	return bpf_map_update_elem(&mappings, &attempt->key, &mapping, flags);
}

// A mapping was made at the attempt's key: it is found, also where it is not at the first candidate.
static __noinline int made(struct attempt *attempt)
{
	const struct nat_port port = { .port = attempt->key.outer_port };
	struct nat_mapping *mapping;

	if (attempt->key.outer_port != candidate(attempt, 0) &&
	    bpf_map_update_elem(&moved, &attempt->given, &port, BPF_ANY)) {
		mapping = bpf_map_lookup_elem(&mappings, &attempt->key);
		if (mapping)
			mapping->seen_ns = IS_OVER;
		attempt->is_full = 1;
		return 1;
	}
	attempt->is_made = 1;
	COUNT(created);
	return 1;
}

// Makes the mapping at the attempt's key, where there is none. Zero: another flow's is there.
static __noinline int make_here(struct attempt *attempt)
{
	const long error = set_mapping(attempt, BPF_NOEXIST);

	// Another CPU was faster, perhaps with a packet of the same flow.
	if (error == -EEXIST) {
		attempt->is_made = own_mapping(&attempt->key, &attempt->given.flow) != NULL;
		return attempt->is_made;
	}
	if (!error && !bpf_map_push_elem(&turns, &attempt->key, 0))
		return made(attempt);
	if (!error)
		bpf_map_delete_elem(&mappings, &attempt->key);
	attempt->is_full = 1;
	return 1;
}

// Makes the mapping at the attempt's key in the place of one that had this time. Zero: another CPU does so.
static __noinline int make_instead(struct attempt *attempt, struct nat_mapping *mapping, __u64 seen_ns)
{
	if (seen_ns == BEING_REMOVED || !set_seen(mapping, seen_ns, BEING_REMOVED))
		return 0;
	forget_port(&attempt->key, mapping);
	if (!set_mapping(attempt, BPF_EXIST))
		return made(attempt);
	// There is no memory.
	mapping->seen_ns = IS_OVER;
	attempt->is_full = 1;
	return 1;
}

// One: no other candidate has to be tried.
static long try_candidate(__u32 number, void *context)
{
	struct attempt *const attempt = context;
	struct nat_mapping *mapping;
	__u64 seen_ns = 0;

	attempt->key.outer_port = candidate(attempt, number);
	mapping = bpf_map_lookup_elem(&mappings, &attempt->key);
	if (mapping)
		seen_ns = mapping->seen_ns;
	if (mapping && was_alive(&attempt->key, mapping, seen_ns)) {
		if (belongs_to(mapping, &attempt->given.flow)) {
			attempt->is_made = 1;
			return 1;
		}
		if (!attempt->can_be_taken && attempt->key.protocol == IPPROTO_TCP && is_closing(mapping->state) &&
		    ns_since(seen_ns) > TCP_CAN_BE_TAKEN * NS_PER_SECOND) {
			attempt->can_be_taken = 1;
			attempt->port = attempt->key.outer_port;
		}
		return 0;
	}
	if (is_socket_there(attempt->skb, &attempt->key)) {
		COUNT(ports_in_use);
		return 0;
	}
	return mapping ? make_instead(attempt, mapping, seen_ns) : make_here(attempt);
}

// Removes the mapping whose turn it is, if its time is over.
static long sweep_one(__u32 number, void *context)
{
	__u32 *const has_removed = context;
	struct nat_mapping *mapping;
	struct nat_key key;
	__u64 seen_ns;

	(void)number;
	if (bpf_map_pop_elem(&turns, &key))
		return 1;
	mapping = bpf_map_lookup_elem(&mappings, &key);
	if (!mapping)
		return 0;
	seen_ns = mapping->seen_ns;
	if (seen_ns == BEING_REMOVED || was_alive(&key, mapping, seen_ns) ||
	    !set_seen(mapping, seen_ns, BEING_REMOVED)) {
		bpf_map_push_elem(&turns, &key, 0);
		return 0;
	}
	forget_port(&key, mapping);
	bpf_map_delete_elem(&mappings, &key);
	// A number would have the verifier look at each step anew.
	*has_removed = 1;
	return 0;
}

// Looks for mappings that are over, once in a tick of the clock at most, and so often that all have their turn. Zero: there
// is no more room than before.
static __noinline int sweep(void)
{
	const __u32 zero = 0;
	struct nat_settings *const set = bpf_map_lookup_elem(&settings, &zero);
	const __u64 now = now_ns();
	__u32 has_removed = 0;
	__u64 before;

	if (!set)
		return 0;
	before = set->swept_ns;
	if (now == before || __sync_val_compare_and_swap(&set->swept_ns, before, now) != before)
		return 0;
	bpf_loop(SWEEP_STEPS, sweep_one, &has_removed, 0);
	return has_removed;
}

// The host takes a port back. Zero: another CPU was faster.
static __always_inline int yield_port(const struct nat_key *key, struct nat_mapping *mapping, __u64 seen_ns)
{
	const __u32 zero = 0;
	struct nat_settings *const set = bpf_map_lookup_elem(&settings, &zero);

	if (!set_seen(mapping, seen_ns, IS_OVER))
		return 0;
	forget_port(key, mapping);
	// There is something to be found by a sweep, even in the tick of the last one.
	if (set)
		set->swept_ns = 0;
	return 1;
}

// Takes the port of a connection that is closing.
static __always_inline int take(struct attempt *attempt)
{
	struct nat_mapping *mapping;

	attempt->key.outer_port = attempt->port;
	mapping = bpf_map_lookup_elem(&mappings, &attempt->key);
	if (!mapping || !make_instead(attempt, mapping, mapping->seen_ns) || !attempt->is_made)
		return 0;
	COUNT(reused);
	return 1;
}

// Makes a mapping for a flow that has none; zero: it cannot have one, which was counted. The attempt's key becomes its.
static __always_inline int make(struct attempt *attempt)
{
	bpf_loop(CANDIDATES, try_candidate, attempt, 0);
	if (attempt->is_full && sweep()) {
		attempt->is_full = 0;
		make_here(attempt);
	}
	if (attempt->is_full) {
		COUNT(table_full);
		return 0;
	}
	if (attempt->is_made || (attempt->can_be_taken && take(attempt)))
		return 1;
	COUNT(exhausted);
	return 0;
}

static __always_inline void set_state(struct nat_mapping *mapping, __u8 state)
{
	const __u64 seen_ns = mapping->seen_ns;

	if (state != mapping->state)
		mapping->state = state;
	if (ns_since(seen_ns) > SEEN_EVERY_NS)
		set_seen(mapping, seen_ns, now_ns());
}

static __always_inline void saw_leaving(struct nat_mapping *mapping, const struct nat_packet *packet)
{
	__u8 state = mapping->state;

	if (packet->what == TCP_SEGMENT) {
		state &= ~NAT_RESET;
		if (begins_flow(packet) && is_closing(mapping->state))
			state = 0;
		if (packet->tcp_flags & TCP_FIN)
			state |= NAT_FIN_OUT;
		if (packet->tcp_flags & TCP_RST)
			state |= NAT_RESET;
	}
	set_state(mapping, state);
}

static __always_inline void saw_coming(struct nat_mapping *mapping, const struct nat_packet *packet)
{
	__u8 state = mapping->state | NAT_ANSWERED;

	if (packet->what == TCP_SEGMENT) {
		state &= ~NAT_RESET;
		if (packet->tcp_flags & TCP_FIN)
			state |= NAT_FIN_IN;
		if (packet->tcp_flags & TCP_RST)
			state |= NAT_RESET;
	}
	set_state(mapping, state);
}

#endif
