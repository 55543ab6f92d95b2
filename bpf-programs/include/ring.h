// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// From a flow's hash to a backend's index, through a ring of one-byte or two-byte slots.
#ifndef NETD_RING_H
#define NETD_RING_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "maps.h"

#define NO_INDEX 0xffffffffu

// hash % slots; why it holds is said and tested at `slot` in src/arithmetic.rs.
static __always_inline __u32 slot_of(__u32 hash, __u32 slots, __u32 magic)
{
	const __u32 quotient = ((__u64)hash * magic) >> 32;
	const __u32 rest = hash - quotient * slots;

	return rest >= slots ? rest - slots : rest;
}

// The index in a slot; NO_INDEX if the ring's lines do not exist.
static __always_inline __u32 index_in(__u32 first_line, __u32 slot, __u32 wide)
{
	const __u32 per_line_shift = wide ? 5 : 6;
	const __u32 key = first_line + (slot >> per_line_shift);
	const struct ring_line *line = bpf_map_lookup_elem(&rings, &key);

	if (!line)
		return NO_INDEX;
	if (wide)
		return ((const __u16 *)line->bytes)[slot & 31];
	return line->bytes[slot & 63];
}

// What the current ring gives to a flow; NO_INDEX if the service has no backend.
static __always_inline __u32 ring_index(const struct frontend *frontend, __u32 hash)
{
	const __u32 slot = slot_of(hash, frontend->slots, frontend->slots_magic);

	if (!frontend->slots)
		return NO_INDEX;
	return index_in(frontend->ring, slot, frontend->flags & WIDE_SLOTS);
}

// What the previous ring gave to it; NO_INDEX if there is none.
static __always_inline __u32 previous_index(const struct frontend *frontend, __u32 hash)
{
	const __u32 slot = slot_of(hash, frontend->previous_slots, frontend->previous_magic);

	if (!(frontend->flags & KEEP_FLOWS) || !frontend->previous_slots)
		return NO_INDEX;
	return index_in(frontend->previous_ring, slot, frontend->flags & WIDE_PREVIOUS);
}

static __always_inline struct backend *backend_at(const struct frontend *frontend, __u32 index)
{
	const __u32 key = frontend->backends + index;

	if (index >= frontend->backend_count)
		return NULL;
	return bpf_map_lookup_elem(&backends, &key);
}

#endif
