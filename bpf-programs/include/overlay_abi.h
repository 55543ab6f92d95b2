// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The layouts that the programs of the overlay and user space share. The twin of src/overlay/abi.rs, where every member
// is explained.
#ifndef NETD_OVERLAY_ABI_H
#define NETD_OVERLAY_ABI_H

#include <linux/types.h>

// Addresses are of IPv6, IPv4 ones mapped.
struct overlay_prefix {
	__u32 bits;
	__u8 address[16];
};

#define OVERLAY_IN_TUNNEL 1
#define OVERLAY_DIRECT 2

struct overlay_way {
	__u8 remote[16];
	__u8 local[16];
	__u32 ifindex;
	__u8 how;
	__u8 is_v6;
	__u8 pods_are_v6;
	__u8 zero;
};

struct overlay_settings {
	__u32 abi_version;
	__u32 vni;
	__u64 program_digest;
	__u32 mtu;
	__u32 zero;
};

// A line for each CPU.
struct overlay_counts {
	__u64 sent;
	__u64 sent_directly;
	__u64 received;
	__u64 delivered;
	__u64 strangers;
	__u64 reserved[3];
};

_Static_assert(sizeof(struct overlay_prefix) == 20, "keys have no padding");
_Static_assert(sizeof(struct overlay_way) == 40, "values have no padding");
_Static_assert(sizeof(struct overlay_settings) == 24, "settings have no padding");
_Static_assert(sizeof(struct overlay_counts) == 64, "counts of a CPU are a line");

#endif
