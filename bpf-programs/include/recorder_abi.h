// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The layouts that the recording program and user space share. The twin of src/recorder/abi.rs, where every member is
// explained.
#ifndef NETD_RECORDER_ABI_H
#define NETD_RECORDER_ABI_H

#include <linux/types.h>

// Captures at once, and masks of each family.
#define CAPTURES_MAX 32
#define MASKS_MAX 16

// Bytes of a frame that a record can have.
#define RECORD_BYTES_MAX 16384

enum record_point { CAME_IN, LEFT, STAYED };

#define RECORD_NO_SERVICE 0xffffffff
#define RECORD_NO_BACKEND 0xffffffff

// Addresses are of IPv6, IPv4 ones mapped.
struct record_key {
	__u8 source[16];
	__u8 destination[16];
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 has_ports;
	__u8 mask;
	__u8 zero;
};

union record_words {
	struct record_key key;
	__u64 words[5];
};

struct record_mask {
	__u64 words[5];
	__u64 reserved[3];
};

struct record_active {
	__u32 v4;
	__u32 v6;
};

struct record_capture {
	// User space writes these.
	__u32 snaplen;
	__u32 share;
	__u64 taken;
	// Programs write these.
	__u64 given;
	__u64 packets;
	__u64 bytes;
	__u64 lost_packets;
	__u64 lost_bytes;
	__u64 reserved;
};

struct record_header {
	__u64 id;
	__u64 ns;
	__u32 captures;
	__u32 bytes;
	__u32 kept;
	__u32 ifindex;
	__u32 service;
	__u32 backend;
	__u8 point;
	__u8 verdict;
	__u8 event;
	__u8 zero[5];
};

_Static_assert(sizeof(struct record_key) == 40, "keys have no padding");
_Static_assert(sizeof(struct record_mask) == 64, "a mask is a line");
_Static_assert(sizeof(struct record_capture) == 64, "a capture is a line");
_Static_assert(sizeof(struct record_header) == 48, "headers have no padding");

#endif
