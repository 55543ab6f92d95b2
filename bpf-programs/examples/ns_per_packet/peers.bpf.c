// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// For comparing: two plain load balancers, as others build them, written anew and with less in them than theirs.
// One keeps every flow in an LRU table and finds new ones a backend in a flat ring; one keeps every connection in a
// shared table, has its backends in a hash, and asks the kernel's routes for each packet.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define AF_INET 2
#define AF_INET6 10
#define SYN_ONLY 0x02
#define SYN_OR_ACK 0x12
// Entries of both tables of flows.
#define FLOWS_MAX 524288
// Slots of the flat ring and of a service's table: what such balancers have if nothing else is said.
#define RING_SLOTS 65537
#define TABLE_SLOTS 16381
// What one run of a program that fills writes.
#define FILLED_AT_ONCE 256

// Given when the programs are loaded.
const volatile __u32 backends_each = 1;
const volatile __u32 device = 1;

struct frontend_key {
	__u32 address[4];
	__be16 port;
	__u8 protocol;
	__u8 zero;
};

struct tuple {
	__u32 source[4];
	__u32 destination[4];
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 zero[3];
};

struct target {
	__u32 address[4];
	__be16 port;
	__u16 zero;
};

struct lru_flow {
	__u32 backend;
	__u32 zero;
	__u64 seen_ns;
};

struct connection {
	__u64 packets;
	__u64 bytes;
	__u32 backend;
	__u32 ends_s;
	__u64 zero[4];
};

struct counter {
	__u64 packets;
	__u64 bytes;
};

struct table {
	__u32 slots[TABLE_SLOTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct frontend_key);
	__type(value, __u32);
} services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FLOWS_MAX);
	__type(key, struct tuple);
	__type(value, struct lru_flow);
} lru SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct target);
} targets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FLOWS_MAX);
	__type(key, struct tuple);
	__type(value, struct connection);
} connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct table);
} tables SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct target);
} target_hash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counter);
} service_counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counter);
} target_counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} filled SEC(".maps");

struct packet {
	struct tuple tuple;
	__u32 bytes;
	__u8 is_v6;
	__u8 is_syn;
	__u8 tos;
	__u8 zero;
};

static __always_inline int read_packet(const struct xdp_md *ctx, struct packet *packet)
{
	const void *const end = (const void *)(long)ctx->data_end;
	const struct ethhdr *const eth = (const void *)(long)ctx->data;
	const struct tcphdr *tcp;

	if ((const void *)(eth + 1) > end)
		return 0;
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		const struct iphdr *const ip = (const void *)(eth + 1);

		if ((const void *)(ip + 1) > end || ip->ihl != 5 || (ip->frag_off & bpf_htons(0x3fff)))
			return 0;
		packet->tuple.source[0] = ip->saddr;
		packet->tuple.destination[0] = ip->daddr;
		packet->tuple.protocol = ip->protocol;
		packet->bytes = bpf_ntohs(ip->tot_len);
		packet->tos = ip->tos;
		tcp = (const void *)(ip + 1);
	} else if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		const struct ipv6hdr *const ip = (const void *)(eth + 1);

		if ((const void *)(ip + 1) > end)
			return 0;
		__builtin_memcpy(packet->tuple.source, &ip->saddr, 16);
		__builtin_memcpy(packet->tuple.destination, &ip->daddr, 16);
		packet->tuple.protocol = ip->nexthdr;
		packet->bytes = sizeof(*ip) + bpf_ntohs(ip->payload_len);
		packet->is_v6 = 1;
		tcp = (const void *)(ip + 1);
	} else {
		return 0;
	}
	if (packet->tuple.protocol != IPPROTO_TCP && packet->tuple.protocol != IPPROTO_UDP)
		return 0;
	if ((const void *)tcp + 14 > end)
		return 0;
	packet->tuple.source_port = tcp->source;
	packet->tuple.destination_port = tcp->dest;
	if (packet->tuple.protocol == IPPROTO_TCP)
		packet->is_syn = (((const __u8 *)tcp)[13] & SYN_OR_ACK) == SYN_ONLY;
	return 1;
}

static __always_inline const __u32 *service_of(const struct packet *packet)
{
	struct frontend_key key = {
		.port = packet->tuple.destination_port,
		.protocol = packet->tuple.protocol,
	};

	__builtin_memcpy(key.address, packet->tuple.destination, 16);
	return bpf_map_lookup_elem(&services, &key);
}

static __always_inline __u32 rotated(__u32 word, __u32 bits)
{
	return (word << bits) | (word >> (32 - bits));
}

// One of the usual hashes of three words, after the words of an IPv6 address are folded.
static __always_inline __u32 hash_of(const struct packet *packet)
{
	const __u32 *const source = packet->tuple.source;
	__u32 a = source[0] ^ rotated(source[1], 7) ^ rotated(source[2], 13) ^ rotated(source[3], 19);
	__u32 b = (__u32)packet->tuple.source_port << 16 | packet->tuple.destination_port;
	__u32 c = 0xdeadbeef + packet->tuple.protocol;

	c ^= b; c -= rotated(b, 14);
	a ^= c; a -= rotated(c, 11);
	b ^= a; b -= rotated(a, 25);
	c ^= b; c -= rotated(b, 16);
	a ^= c; a -= rotated(c, 4);
	b ^= a; b -= rotated(a, 14);
	c ^= b; c -= rotated(b, 24);
	return c;
}

static __always_inline void count(void *map, __u32 key, __u32 bytes)
{
	struct counter *const counter = bpf_map_lookup_elem(map, &key);

	if (counter) {
		counter->packets += 1;
		counter->bytes += bytes;
	}
}

static __always_inline int write_outer(struct xdp_md *ctx, const struct packet *packet, const struct target *target,
				       const __u8 *macs)
{
	const __u32 grown = packet->is_v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	struct ethhdr *eth;

	if (bpf_xdp_adjust_head(ctx, -(int)grown))
		return 0;
	eth = (void *)(long)ctx->data;
	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return 0;
	__builtin_memcpy(eth, macs, 12);
	if (packet->is_v6) {
		struct ipv6hdr *const ip = (void *)(eth + 1);

		if ((void *)(ip + 1) > (void *)(long)ctx->data_end)
			return 0;
		eth->h_proto = bpf_htons(ETH_P_IPV6);
		*(__u32 *)ip = bpf_htonl(6u << 28);
		ip->payload_len = bpf_htons(packet->bytes);
		ip->nexthdr = IPPROTO_IPV6;
		ip->hop_limit = 64;
		__builtin_memset(&ip->saddr, 1, 12);
		ip->saddr.s6_addr32[3] = packet->tuple.source[3] ^ packet->tuple.source_port;
		__builtin_memcpy(&ip->daddr, target->address, 16);
	} else {
		struct iphdr *const ip = (void *)(eth + 1);
		const __u16 *const words = (const __u16 *)ip;
		__u32 sum = 0;

		if ((void *)(ip + 1) > (void *)(long)ctx->data_end)
			return 0;
		eth->h_proto = bpf_htons(ETH_P_IP);
		*(__u16 *)ip = bpf_htons(0x4500);
		ip->tos = packet->tos;
		ip->tot_len = bpf_htons(packet->bytes + sizeof(*ip));
		ip->id = 0;
		ip->frag_off = 0;
		ip->ttl = 64;
		ip->protocol = IPPROTO_IPIP;
		ip->check = 0;
		ip->saddr = bpf_htonl(0xac100000) | ((packet->tuple.source[0] ^ packet->tuple.source_port) >> 16 << 16);
		ip->daddr = target->address[0];
#pragma clang loop unroll(full)
		for (int k = 0; k < 10; k++)
			sum += words[k];
		sum = (sum & 0xffff) + (sum >> 16);
		ip->check = ~((sum & 0xffff) + (sum >> 16));
	}
	return 1;
}

static __always_inline __u32 backend_by_lru(const struct packet *packet, __u32 service)
{
	struct lru_flow *known = packet->is_syn ? NULL : bpf_map_lookup_elem(&lru, &packet->tuple);
	const __u64 now = packet->tuple.protocol == IPPROTO_UDP ? bpf_ktime_get_ns() : 0;
	const __u32 slot = service * RING_SLOTS + hash_of(packet) % RING_SLOTS;
	struct lru_flow flow = { .seen_ns = now };
	const __u32 *found;

	if (known) {
		known->seen_ns = now;
		return known->backend;
	}
	found = bpf_map_lookup_elem(&ring, &slot);
	if (!found)
		return 0;
	flow.backend = *found;
	bpf_map_update_elem(&lru, &packet->tuple, &flow, BPF_ANY);
	return *found;
}

SEC("xdp")
int lru_and_ring(struct xdp_md *ctx)
{
	const __u8 macs[12] = { 2, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 2 };
	struct packet packet = {};
	const struct target *target;
	const __u32 *service;
	__u32 backend;

	if (!read_packet(ctx, &packet))
		return XDP_PASS;
	service = service_of(&packet);
	if (!service)
		return XDP_PASS;
	backend = backend_by_lru(&packet, *service);
	target = bpf_map_lookup_elem(&targets, &backend);
	if (!target || !write_outer(ctx, &packet, target, macs))
		return XDP_DROP;
	count(&service_counters, *service, packet.bytes);
	count(&target_counters, backend, packet.bytes);
	return XDP_TX;
}

// The verifier does not know what a remainder is below; the comparison has to stay.
static __always_inline __u32 table_slot(__u32 number)
{
	__u32 slot = number % TABLE_SLOTS;

	asm volatile("" : "+r"(slot));
	return slot;
}

static __always_inline __u32 backend_by_table(const struct packet *packet, __u32 service)
{
	struct connection *known = bpf_map_lookup_elem(&connections, &packet->tuple);
	const __u32 slot = table_slot(hash_of(packet));
	const __u32 now = bpf_ktime_get_ns() / 1000000000ull;
	struct connection connection = { .packets = 1, .bytes = packet->bytes, .ends_s = now + 21600 };
	const struct table *table;

	if (known && !packet->is_syn) {
		known->packets += 1;
		known->bytes += packet->bytes;
		known->ends_s = now + 21600;
		return known->backend;
	}
	table = bpf_map_lookup_elem(&tables, &service);
	if (!table || slot >= TABLE_SLOTS)
		return 0;
	connection.backend = table->slots[slot];
	bpf_map_update_elem(&connections, &packet->tuple, &connection, BPF_ANY);
	return connection.backend;
}

SEC("xdp")
int table_and_routes(struct xdp_md *ctx)
{
	struct bpf_fib_lookup route = { .ifindex = device };
	struct packet packet = {};
	const struct target *target;
	const __u32 *service;
	__u8 macs[12];
	__u32 backend;

	if (!read_packet(ctx, &packet))
		return XDP_PASS;
	service = service_of(&packet);
	if (!service)
		return XDP_PASS;
	backend = backend_by_table(&packet, *service);
	target = bpf_map_lookup_elem(&target_hash, &backend);
	if (!target)
		return XDP_DROP;
	route.family = packet.is_v6 ? AF_INET6 : AF_INET;
	if (packet.is_v6) {
		__builtin_memcpy(route.ipv6_dst, target->address, 16);
		__builtin_memcpy(route.ipv6_src, packet.tuple.destination, 16);
	} else {
		route.ipv4_dst = target->address[0];
		route.ipv4_src = packet.tuple.destination[0];
	}
	if (bpf_fib_lookup(ctx, &route, sizeof(route), 0) != BPF_FIB_LKUP_RET_SUCCESS)
		return XDP_ABORTED;
	__builtin_memcpy(macs, route.dmac, 6);
	__builtin_memcpy(macs + 6, route.smac, 6);
	if (!write_outer(ctx, &packet, target, macs))
		return XDP_DROP;
	count(&service_counters, *service, packet.bytes);
	// What came by the loopback device of a test run would leave by another; a redirect is not what is measured.
	return XDP_TX;
}

// Each slot gets one of the service's backends, in no order that a cache could guess.
static __always_inline __u32 filling(__u32 service, __u32 slot)
{
	return service * backends_each + (slot * 2654435761u >> 8) % backends_each;
}

SEC("xdp")
int fill_ring(struct xdp_md *ctx __attribute__((unused)))
{
	const __u32 zero = 0;
	__u32 *const next = bpf_map_lookup_elem(&filled, &zero);

	if (!next)
		return XDP_ABORTED;
	for (int k = 0; k < FILLED_AT_ONCE; k++) {
		const __u32 at = *next;
		__u32 *const entry = bpf_map_lookup_elem(&ring, &at);

		if (!entry)
			return XDP_DROP;
		*entry = filling(at / RING_SLOTS, at % RING_SLOTS);
		*next = at + 1;
	}
	return XDP_PASS;
}

SEC("xdp")
int fill_tables(struct xdp_md *ctx __attribute__((unused)))
{
	const __u32 zero = 0;
	__u32 *const next = bpf_map_lookup_elem(&filled, &zero);

	if (!next)
		return XDP_ABORTED;
	for (int k = 0; k < FILLED_AT_ONCE; k++) {
		const __u32 at = *next;
		const __u32 service = at / TABLE_SLOTS;
		const __u32 slot = table_slot(at);
		struct table *const table = bpf_map_lookup_elem(&tables, &service);

		if (!table || slot >= TABLE_SLOTS)
			return XDP_DROP;
		table->slots[slot] = filling(service, slot);
		*next = at + 1;
	}
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
