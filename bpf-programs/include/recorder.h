// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The recorder: which captures want a packet, and what they get of it as it comes in and as it leaves. Only in the
// program that runs while anything is recorded.
#ifndef NETD_RECORDER_H
#define NETD_RECORDER_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "counters.h"
#include "fragments.h"
#include "maps.h"
#include "packet.h"
#include "recorder_abi.h"
#include "recorder_notes.h"

#define SCTP 132
// An id is unique for as long as anything is recorded: the CPU, and how many it has given.
#define ID_CPU_SHIFT 48

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * MASKS_MAX);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct record_mask);
} record_masks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct record_active);
} record_active SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct record_key);
	__type(value, __u64);
} record_entries SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CAPTURES_MAX);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct record_capture);
} record_captures SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} record_ring SEC(".maps");

struct record {
	struct record_header header;
	__u8 frame[RECORD_BYTES_MAX];
};

// A record is put together here, for the stack has no room for it.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct record);
} record_scratch SEC(".maps");

static __always_inline void read_ports_to_match(const struct xdp_md *ctx, struct packet *packet)
{
	const __u8 *const l4 = at(ctx, packet->l4);

	if (packet->kind == LATER) {
		packet->has_ports = read_ports_of_first(packet);
	} else if (packet->protocol == SCTP && (const void *)(l4 + sizeof(struct ports)) <= frame_end(ctx)) {
		*(__u32 *)&packet->asked.key.source_port = *(const __u32 *)l4;
		packet->has_ports = 1;
	}
}

// The captures that have an entry for the key under a mask.
__noinline __u32 captures_of(const union record_words *key, __u32 first, __u32 active)
{
	union record_words masked = {};
	__u32 captures = 0;

	if (!key)
		return 0;
#pragma clang loop unroll(disable)
	for (__u32 number = 0; number < MASKS_MAX && active >> number; number++) {
		const __u32 at = first + number;
		const struct record_mask *const mask = bpf_map_lookup_elem(&record_masks, &at);
		const __u64 *found;

		if (!mask || !(active >> number & 1))
			continue;
		for (int word = 0; word < 5; word++)
			masked.words[word] = key->words[word] & mask->words[word];
		masked.key.mask = at;
		found = bpf_map_lookup_elem(&record_entries, &masked);
		if (found)
			captures |= *found;
	}
	return captures;
}

__noinline __u32 captures_for(struct xdp_md *ctx)
{
	const __u32 zero = 0;
	const struct record_active *const active = bpf_map_lookup_elem(&record_active, &zero);
	struct packet packet = {};
	union record_words key = {};

	if (!active || !parse(ctx, &packet))
		return 0;
	read_ports_to_match(ctx, &packet);
	__builtin_memcpy(key.key.source, packet.asked.key.source, sizeof(key.key.source));
	__builtin_memcpy(key.key.destination, packet.asked.key.destination, sizeof(key.key.destination));
	if (packet.has_ports) {
		key.key.source_port = packet.asked.key.source_port;
		key.key.destination_port = packet.asked.key.destination_port;
		key.key.has_ports = 1;
	}
	key.key.protocol = packet.protocol;
	return packet.is_v6 ? captures_of(&key, MASKS_MAX, active->v6) : captures_of(&key, 0, active->v4);
}

enum share { ASKED, GIVEN, LOST };

// Of these captures, those that have room for so much of the ring; or a record of a packet is counted for all of them.
__noinline __u32 for_each(__u32 captures, __u32 what, __u32 room, __u32 bytes)
{
	__u32 with_room = 0;

#pragma clang loop unroll(disable)
	for (__u32 number = 0; number < CAPTURES_MAX && captures >> number; number++) {
		const __u32 at = number;
		struct record_capture *const capture = bpf_map_lookup_elem(&record_captures, &at);

		if (!capture || !(captures >> number & 1))
			continue;
		if (what == ASKED) {
			// What was given is added after the ring has it, and may be taken before.
			if ((__s64)(capture->given - capture->taken) + room <= capture->share)
				with_room |= 1u << number;
		} else if (what == GIVEN) {
			__sync_fetch_and_add(&capture->given, room);
			__sync_fetch_and_add(&capture->packets, bytes ? 1 : 0);
			__sync_fetch_and_add(&capture->bytes, bytes);
		} else {
			__sync_fetch_and_add(&capture->lost_packets, 1);
			__sync_fetch_and_add(&capture->lost_bytes, bytes);
		}
	}
	return with_room;
}

__noinline __u32 longest_snaplen(__u32 captures)
{
	__u32 longest = 0;

#pragma clang loop unroll(disable)
	for (__u32 number = 0; number < CAPTURES_MAX && captures >> number; number++) {
		const __u32 at = number;
		const struct record_capture *const capture = bpf_map_lookup_elem(&record_captures, &at);

		if (capture && (captures >> number & 1) && capture->snaplen > longest)
			longest = capture->snaplen;
	}
	return longest;
}

// Puts the header and the beginning of the frame into the ring. Masked, because older verifiers forget what a number was
// compared with when it is copied.
static __always_inline long put(struct xdp_md *ctx, struct record *scratch, __u32 kept)
{
	__u32 last = kept - 1;

	if (!kept)
		return bpf_ringbuf_output(&record_ring, scratch, sizeof(scratch->header), BPF_RB_NO_WAKEUP);
	asm volatile("" : "+r"(last));
	last &= RECORD_BYTES_MAX - 1;
	if (bpf_xdp_load_bytes(ctx, 0, scratch->frame, last + 1))
		return -1;
	return bpf_ringbuf_output(&record_ring, scratch, sizeof(scratch->header) + last + 1, BPF_RB_NO_WAKEUP);
}

// Hands the frame as it is now, or without bytes the news that it stayed, to those captures that have room.
__noinline int record(struct xdp_md *ctx, __u32 point, int verdict)
{
	const __u32 zero = 0;
	struct record *const scratch = bpf_map_lookup_elem(&record_scratch, &zero);
	struct recorded *const now = recorded_now();
	const __u32 bytes = point == STAYED ? 0 : (__u32)(ctx->data_end - ctx->data);
	__u32 kept = bytes;
	__u32 with_room;
	__u32 snaplen;

	if (!scratch || !now)
		return 0;
	snaplen = longest_snaplen(now->captures);
	if (kept > snaplen)
		kept = snaplen;
	if (kept > RECORD_BYTES_MAX)
		kept = RECORD_BYTES_MAX;

	with_room = for_each(now->captures, ASKED, sizeof(scratch->header) + kept, bytes);
	if (bytes && with_room != now->captures)
		for_each(now->captures & ~with_room, LOST, 0, bytes);
	if (!with_room)
		return 0;
	scratch->header = (struct record_header){
		.id = now->id,
		.ns = bpf_ktime_get_ns(),
		.captures = with_room,
		.bytes = bytes,
		.kept = kept,
		.ifindex = ctx->ingress_ifindex,
		.service = now->service,
		.backend = now->backend,
		.point = point,
		.verdict = verdict,
		.event = now->event,
	};
	if (put(ctx, scratch, kept)) {
		if (bytes)
			for_each(with_room, LOST, 0, bytes);
		return 0;
	}
	for_each(with_room, GIVEN, sizeof(scratch->header) + kept, bytes);
	return 1;
}

// Zero: nobody wants this packet.
__noinline int begin_record(struct xdp_md *ctx)
{
	struct recorded *const now = recorded_now();
	__u32 captures;

	if (!now)
		return 0;
	captures = captures_for(ctx);
	if (!captures)
		return 0;
	now->id = ((now->id + 1) & ((1ull << ID_CPU_SHIFT) - 1)) | (__u64)bpf_get_smp_processor_id() << ID_CPU_SHIFT;
	now->captures = captures;
	now->service = RECORD_NO_SERVICE;
	now->backend = RECORD_NO_BACKEND;
	now->event = EVENTS;
	record(ctx, CAME_IN, 0);
	return 1;
}

static __always_inline void end_record(struct xdp_md *ctx, int verdict)
{
	record(ctx, verdict == XDP_TX || verdict == XDP_REDIRECT ? LEFT : STAYED, verdict);
}

#endif
