// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The layouts that the decapsulating program and user space share. The twin of src/decap/abi.rs, where every member is
// explained.
#ifndef NETD_DECAP_ABI_H
#define NETD_DECAP_ABI_H

#include <linux/types.h>

// Addresses are of IPv6, IPv4 ones mapped; the value of a prefix is its family.
struct decap_prefix {
	__u32 bits;
	__u8 address[16];
};

#define DECAP_IPV4 4
#define DECAP_IPV6 6

struct decap_settings {
	__u32 abi_version;
	__be16 gue_port;
	__u8 zero[2];
	__u64 program_digest;
};

// A line for each CPU.
struct decap_counts {
	__u64 packets;
	__u64 bytes;
	__u64 strangers;
	__u64 not_taken;
	__u64 malformed;
	__u64 congested;
	__u64 reserved[2];
};

_Static_assert(sizeof(struct decap_prefix) == 20, "keys have no padding");
_Static_assert(sizeof(struct decap_settings) == 16, "settings have no padding");
_Static_assert(sizeof(struct decap_counts) == 64, "counts of a CPU are a line");

#endif
