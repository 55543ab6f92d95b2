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

// backend.flags
#define READY 1
#define IN_USE 2

// backend.state: what comes after TERMINATING takes no packets.
#define ACTIVE 0
#define TERMINATING 1

struct frontend_key_v4 {
	__u8 address[4];
	__be16 port;
	__u8 protocol;
	__u8 zero;
};

struct frontend_key_v6 {
	__u8 address[16];
	__be16 port;
	__u8 protocol;
	__u8 zero;
};

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
	__u32 name_seed;
	__u32 other_flow_seed;
	__u32 previous_since;
	__u64 ring_digest;
};

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

struct service_counter {
	__u64 no_backend;
	__u64 no_next_hop;
	__u64 kept_flows;
	__u64 malformed;
};

struct service_name {
	__u8 bytes[LINE_BYTES];
};

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

struct meta {
	__u32 abi_version;
	__u32 ncpu;
	__u32 counter_stride;
	__u32 service_stride;
	__u64 program_digest;
	__u64 reserved[5];
};

_Static_assert(sizeof(struct frontend_key_v4) == 8, "keys have no padding");
_Static_assert(sizeof(struct frontend_key_v6) == 20, "keys have no padding");
_Static_assert(sizeof(struct frontend) == LINE_BYTES, "a frontend is a line");
_Static_assert(sizeof(struct ring_line) == LINE_BYTES, "a ring line is a line");
_Static_assert(sizeof(struct backend) == LINE_BYTES, "a backend is a line");
_Static_assert(sizeof(struct counter) == 16, "counters are two words");
_Static_assert(sizeof(struct service_counter) == 32, "service counters are four words");
_Static_assert(sizeof(struct flow_key) == 40, "keys have no padding");
_Static_assert(sizeof(struct flow) == 16, "a flow is two words");
_Static_assert(sizeof(struct meta) == LINE_BYTES, "meta is a line");

#endif
