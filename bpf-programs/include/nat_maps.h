// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The maps of address translation, and counting.
#ifndef NETD_NAT_MAPS_H
#define NETD_NAT_MAPS_H

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "nat_abi.h"

// Sizes are set when the programs are loaded. Entries take memory only when they are there.
#define ROOM 65536
#define PREFIXES_MAX (1 << 20)
#define ADDRESSES_MAX 65536

struct nat_prefixes {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, PREFIXES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
	__type(key, struct nat_prefix);
	__type(value, __u32);
};

// Whose packets are translated, and where to not.
struct nat_prefixes sources SEC(".maps");
struct nat_prefixes exclude SEC(".maps");

// Egress policies: whose packets they take, and what they say by destination. Without any, nothing of this is in the
// programs: the constant is set when they are loaded.
const volatile __u32 has_egress = 0;

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, PREFIXES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
	__type(key, struct nat_prefix);
	__type(value, struct nat_class);
} egress_sources SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, PREFIXES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
	__type(key, struct nat_egress_key);
	__type(value, struct nat_egress_rule);
} egress_rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ADDRESSES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
	__type(key, __u32);
	__type(value, struct nat_device);
} devices SEC(".maps");

// Every outer address of any rule.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ADDRESSES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
	__type(key, __u8[16]);
	__type(value, __u32);
} addresses SEC(".maps");

// Not of the kind that displaces entries: a live flow is never forgotten for a new one.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ROOM);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct nat_key);
	__type(value, struct nat_mapping);
} mappings SEC(".maps");

// The keys of all mappings, each once. They are looked at in turn, from the front, when there is no room.
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, ROOM);
	__uint(value_size, sizeof(struct nat_key));
} turns SEC(".maps");

// The ports of flows that are not at their first candidate.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ROOM);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct nat_given);
	__type(value, struct nat_port);
} moved SEC(".maps");

// When flows that are not translated were last seen.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, ROOM);
	__type(key, struct nat_flow);
	__type(value, __u64);
} direct SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, ROOM);
	__type(key, struct nat_fragment_key);
	__type(value, struct nat_fragment);
} nat_fragments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct nat_settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct nat_counts);
} counts SEC(".maps");

static __always_inline void count_at(__u32 offset)
{
	const __u32 cpu = bpf_get_smp_processor_id();
	struct nat_counts *const row = bpf_map_lookup_elem(&counts, &cpu);

	if (row)
		(*(__u64 *)((void *)row + offset))++;
}

#define COUNT(member) count_at(__builtin_offsetof(struct nat_counts, member))

#define DROP(reason)           \
	({                     \
		COUNT(reason); \
		TC_ACT_SHOT;   \
	})

#endif
