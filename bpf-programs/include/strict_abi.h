// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The layouts that the programs of strict mode and user space share. The twin of src/strict/abi.rs, where every member is
// explained.
#ifndef NETD_STRICT_ABI_H
#define NETD_STRICT_ABI_H

#include <linux/types.h>

// Addresses are of IPv6, IPv4 ones mapped.
struct strict_prefix {
	__u32 bits;
	__u8 address[16];
};

#define STRICT_VXLAN 1
#define STRICT_GENEVE 2

struct strict_settings {
	__u32 abi_version;
	__u32 mark;
	__u64 program_digest;
	__u16 tunnel_port;
	__u8 tunnel;
	__u8 zero[5];
};

// A packet that goes in fragments.
struct strict_fragments {
	__u8 source[16];
	__u8 destination[16];
	__u32 id;
	__u32 is_v6;
};

// A line for each CPU.
struct strict_counts {
	__u64 out_plain;
	__u64 out_tunnel;
	__u64 out_fragment;
	__u64 in_plain;
	__u64 in_tunnel;
	__u64 reserved[3];
};

_Static_assert(sizeof(struct strict_prefix) == 20, "keys have no padding");
_Static_assert(sizeof(struct strict_settings) == 24, "settings have no padding");
_Static_assert(sizeof(struct strict_fragments) == 40, "keys have no padding");
_Static_assert(sizeof(struct strict_counts) == 64, "counts of a CPU are a line");

#endif
