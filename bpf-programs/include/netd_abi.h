// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The layouts that the programs and user space share. The twin of src/abi.rs, where every member is explained; a test
// compares the two by the type information of the built object. be16 marks what is in network order.
#ifndef NETD_ABI_H
#define NETD_ABI_H

#include <linux/types.h>

#define LINE_BYTES 64

// frontend.flags
#define WIDE_SLOTS 1
#define KEEP_FLOWS 2
#define WINDOW_OPEN 4
#define WIDE_PREVIOUS 8
// RANDOM, AFFINITY or SOURCES: one question for a service that has none of them.
#define CAREFUL 16
#define RANDOM 32
#define AFFINITY 64
// The client is looked up in `sources`; with SOURCES_LISTED, one that matches nothing is denied.
#define SOURCES 128
#define SOURCES_LISTED 256
#define REJECT_NO_BACKEND 512
// In VIP entries (port 0, protocol 0) and pools: ping is answered; what becomes of unknown ports, else PASS.
#define PING 1024
#define UNKNOWN_DROP 2048
#define UNKNOWN_REJECT 4096
// With KEEP_FLOWS: flows of any slot may have records, also where the rings agree.
#define RECORDS_ANYWHERE 8192

// backend.flags
#define READY 1
#define IN_USE 2
// The outer header is of the other family than the VIP.
#define OTHER_FAMILY 4
// UDP with GUE variant 1.
#define GUE 8

// backend.state: what comes after TERMINATING takes no packets.
#define ACTIVE 0
#define TERMINATING 1

// source.verdict
#define SOURCE_ALLOWED 1
#define SOURCE_DENIED 2

// An entry of a bucket: the key, and the place of its value. `frontend` is a number of a line of `frontends` plus one,
// zero in a free entry; it is written last and cleared first. In the first entry of a bucket a nonzero `overflow` says
// that keys of the bucket may lie in the next one.
struct entry_v4 {
	__u8 address[4];
	__be16 port;
	__u8 protocol;
	__u8 zero;
	__u32 frontend;
	__u32 overflow;
};

struct bucket_v4 {
	struct entry_v4 entries[4];
} __attribute__((aligned(8)));

struct entry_v6 {
	__u8 address[16];
	__be16 port;
	__u8 protocol;
	__u8 zero;
	__u32 frontend;
	__u32 overflow;
	__u32 zeros;
};

struct bucket_v6 {
	struct entry_v6 entries[2];
} __attribute__((aligned(8)));

// A line never changes while an entry names it. The second half is user space's.
struct frontend {
	__u32 ring;
	__u32 slots;
	__u32 slots_magic;
	__u32 flow_seed;
	__u32 backends;
	__u32 backend_count;
	__u32 flags;
	__u32 service;
	__u32 previous_ring;
	__u32 previous_slots;
	__u32 previous_magic;
	__u32 affinity_seconds;
	__u32 first_counter;
	__u32 reserved[3];

	__u32 name_seed;
	__u32 other_flow_seed;
	__u32 previous_since;
	__u32 hash_names;
	__u64 ring_digest;
	__u64 notes[5];
} __attribute__((aligned(8)));

struct ring_line {
	__u8 bytes[LINE_BYTES];
} __attribute__((aligned(8)));

struct backend {
	__u8 destination_mac[6];
	__u8 source_mac[6];
	__u16 mtu;
	__u16 flags;
	__u8 destination[16];
	__u8 source[16];
	__u32 ifindex;
	__u32 counter;
	__be16 port;
	__u16 checksum;
	__u8 source_bits;
	__u8 state;
	__u16 weight;
} __attribute__((aligned(8)));

struct counter {
	__u64 packets;
	__u64 bytes;
};

// One word for each reason; docs/datapath.md says when.
struct service_counter {
	__u64 no_backend;
	__u64 no_next_hop;
	__u64 kept_flows;
	__u64 malformed;
	__u64 too_big;
	__u64 source_denied;
	__u64 martian;
	__u64 unknown_port;
	__u64 fragment_lost;
	__u64 rate_limited;
	__u64 rejected;
	__u64 told_too_big;
	__u64 echo_replies;
	__u64 icmp_relayed;
	__u64 fragments;
	__u64 passed;
};

struct service_name {
	__u8 bytes[LINE_BYTES];
};

// With source port 0: the client's record of a service with affinity.
struct flow_key {
	__u8 source[16];
	__u8 destination[16];
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 zero[3];
};

struct flow {
	__u32 counter;
	__u32 index;
	__u64 seen_ns;
};

// IPv4 addresses are IPv4-mapped, here and in source_key and pool_key.
struct fragment_key {
	__u8 source[16];
	__u8 destination[16];
	__u32 id;
	__u8 protocol;
	__u8 zero[3];
};

struct fragment {
	__be16 source_port;
	__be16 destination_port;
	__u32 zero;
	__u64 seen_ns;
};

// Keys of longest-prefix maps: `bits` counts what follows it; of source_key, the service's 32 bits come first.
struct source_key {
	__u32 bits;
	__u32 service;
	__u8 address[16];
};

struct source {
	__u32 verdict;
	__u32 added;
};

struct pool_key {
	__u32 bits;
	__u8 address[16];
};

struct pool {
	__u32 flags;
	__u32 service;
};

// One line for each CPU: what was sent in the second that `second` names.
struct limit {
	__u64 second;
	__u32 errors;
	__u32 relayed;
	__u64 reserved[6];
};

// What is decided for the whole load balancer: constants of the program.
struct settings {
	__u32 icmp_errors_per_second;
	__be16 gue_port;
	__u8 hop_limit;
	// 0 to 63, or COPY.
	__u8 outer_dscp;
	// 1: the inner bits; 0: none.
	__u8 copies_ecn;
	// 1: `pools` is not empty.
	__u8 has_pools;
	__u8 zero[6];
};

#define COPY 255

struct meta {
	__u32 abi_version;
	__u32 ncpu;
	__u32 counter_stride;
	__u32 service_stride;
	__u64 program_digest;
	struct settings settings;
	__u64 reserved[3];
};

_Static_assert(sizeof(struct bucket_v4) == LINE_BYTES, "a bucket is a line");
_Static_assert(sizeof(struct bucket_v6) == LINE_BYTES, "a bucket is a line");
_Static_assert(sizeof(struct frontend) == 2 * LINE_BYTES, "a frontend is two lines");
_Static_assert(sizeof(struct ring_line) == LINE_BYTES, "a ring line is a line");
_Static_assert(sizeof(struct backend) == LINE_BYTES, "a backend is a line");
_Static_assert(sizeof(struct counter) == 16, "counters are two words");
_Static_assert(sizeof(struct service_counter) == 2 * LINE_BYTES, "service counters are two lines");
_Static_assert(sizeof(struct flow_key) == 40, "keys have no padding");
_Static_assert(sizeof(struct flow) == 16, "a flow is two words");
_Static_assert(sizeof(struct fragment_key) == 40, "keys have no padding");
_Static_assert(sizeof(struct fragment) == 16, "a fragment is two words");
_Static_assert(sizeof(struct source_key) == 24, "keys have no padding");
_Static_assert(sizeof(struct pool_key) == 20, "keys have no padding");
_Static_assert(sizeof(struct limit) == LINE_BYTES, "a limit is a line");
_Static_assert(sizeof(struct settings) == 16, "settings have no padding");
_Static_assert(sizeof(struct meta) == LINE_BYTES, "meta is a line");

#endif
