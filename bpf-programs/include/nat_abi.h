// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The layouts that the translating programs and user space share. The twin of src/nat/abi.rs, where every member is
// explained.
#ifndef NETD_NAT_ABI_H
#define NETD_NAT_ABI_H

#include <linux/types.h>

// Addresses are of IPv6, IPv4 ones mapped.
struct nat_prefix {
	__u32 bits;
	__u8 address[16];
};

// The value of a prefix is its family.
#define NAT_IPV4 4
#define NAT_IPV6 6

struct nat_flow {
	__u8 inner[16];
	__u8 remote[16];
	__be16 inner_port;
	__be16 remote_port;
	__u8 protocol;
	__u8 zero[3];
};

struct nat_key {
	__u8 remote[16];
	__u8 outer[16];
	__be16 remote_port;
	__be16 outer_port;
	__u8 protocol;
	__u8 zero[3];
};

// A flow at an outer address.
struct nat_given {
	struct nat_flow flow;
	__u8 outer[16];
};

struct nat_mapping {
	__u8 inner[16];
	__u64 seen_ns;
	__be16 inner_port;
	__u8 state;
	__u8 zero[5];
};

// States of a mapping, to be combined.
#define NAT_ANSWERED 1
#define NAT_FIN_OUT 2
#define NAT_FIN_IN 4
#define NAT_RESET 8

struct nat_port {
	__be16 port;
	__u8 zero[6];
};

struct nat_fragment_key {
	__u8 source[16];
	__u8 destination[16];
	__u32 id;
	__u8 protocol;
	__u8 zero[3];
};

struct nat_fragment {
	__u8 address[16];
	__u64 seen_ns;
};

struct nat_device {
	__u8 outer_v4[16];
	__u8 outer_v6[16];
	__u16 first_port;
	__u16 last_port;
	__u8 has_v4;
	__u8 has_v6;
	__u8 zero[2];
};

// What packets of a source go by: the value of a prefix in `egress_sources`.
struct nat_class {
	__u32 family;
	__u32 class;
};

struct nat_egress_key {
	__u32 bits;
	__u32 class;
	__u8 address[16];
};

// What a rule of an egress policy says.
#define NAT_TRANSLATE 1
#define NAT_TUNNEL 2
#define NAT_NEXT_HOP 3
#define NAT_DROP 4
#define NAT_PASS 5

struct nat_egress_rule {
	__u8 address[16];
	__u32 ifindex;
	__u32 vni;
	__u16 first_port;
	__u16 last_port;
	__u8 what;
	__u8 family;
	__u8 is_v6;
	__u8 zero;
};

struct nat_settings {
	__u32 abi_version;
	__u32 has_egress;
	__u64 seed;
	__u64 program_digest;
	__u64 swept_ns;
};

// Three lines for each CPU.
struct nat_counts {
	__u64 out_packets;
	__u64 in_packets;
	__u64 errors_out;
	__u64 errors_in;
	__u64 created;
	__u64 reused;
	__u64 yielded;
	__u64 direct;
	__u64 ports_in_use;
	__u64 exhausted;
	__u64 table_full;
	__u64 no_mapping;
	__u64 no_address;
	__u64 malformed;
	__u64 unsupported;
	__u64 fragment_lost;
	__u64 steered;
	__u64 no_gateway;
	__u64 looped;
	__u64 zero[5];
};

_Static_assert(sizeof(struct nat_prefix) == 20, "keys have no padding");
_Static_assert(sizeof(struct nat_flow) == 40, "keys have no padding");
_Static_assert(sizeof(struct nat_given) == 56, "keys have no padding");
_Static_assert(sizeof(struct nat_key) == 40, "keys have no padding");
_Static_assert(sizeof(struct nat_mapping) == 32, "a mapping is half a line");
_Static_assert(sizeof(struct nat_port) == 8, "a port is a word");
_Static_assert(sizeof(struct nat_fragment_key) == 40, "keys have no padding");
_Static_assert(sizeof(struct nat_fragment) == 24, "a fragment is three words");
_Static_assert(sizeof(struct nat_device) == 40, "devices have no padding");
_Static_assert(sizeof(struct nat_class) == 8, "a class is two words");
_Static_assert(sizeof(struct nat_egress_key) == 24, "keys have no padding");
_Static_assert(sizeof(struct nat_egress_rule) == 32, "a rule is half a line");
_Static_assert(sizeof(struct nat_settings) == 32, "settings are half a line");
_Static_assert(sizeof(struct nat_counts) == 192, "counts of a CPU are three lines");

#endif
