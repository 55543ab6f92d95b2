// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Finding a frontend. A hash table in plain arrays, which user space changes under traffic without a system call:
//
// - An entry's key is written while its `frontend` is zero; then `frontend` is set by one aligned store. It is cleared
//   by one as well, and neither the entry is given to another key nor the line to another frontend until every program
//   has ended that might have seen them. So a number that was read before its key was read belongs to that key.
// - Where a bucket is full its keys lie in the next ones; `overflow` of its first entry says so.
#ifndef NETD_LOOKUP_H
#define NETD_LOOKUP_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "maps.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "keys are compared as words that a little-endian CPU loads");

// The buckets in which a key may lie, from its own on; FARTHEST in src/frontends.rs.
#define BUCKETS_TRIED 32

// The hash is a sum of products with odd constants, of which the top bits are the best.
#define FACTOR_A 0x9e3779b97f4a7c15ull
#define FACTOR_B 0xc2b2ae3d27d4eb4full
#define FACTOR_C 0x165667b19e3779f9ull

// Of two buckets; set when the program is loaded. The mask is the number of buckets less one.
const volatile __u32 hash_shift_v4 = 63;
const volatile __u32 hash_shift_v6 = 63;
const volatile __u32 bucket_mask_v4 = 1;
const volatile __u32 bucket_mask_v6 = 1;

// The same address, in a way that no CPU reads it before `read` has been read.
static __always_inline const volatile __u64 *after(const volatile __u64 *address, __u64 read)
{
	asm volatile("%0 &= 0" : "+r"(read));
	return (const void *)address + read;
}

// The numbers of `frontends` plus one, or zero.
static __always_inline __u32 number_v4(const struct entry_v4 *entry, __u64 key)
{
	const volatile __u64 *const words = (const volatile __u64 *)entry;
	__u32 number;

	if (words[0] != key)
		return 0;
	number = words[1];
	return *after(words, number) == key ? number : 0;
}

static __always_inline __u32 number_v6(const struct entry_v6 *entry, __u64 high, __u64 low, __u32 rest)
{
	const volatile __u64 *words = (const volatile __u64 *)entry;
	const __u64 published = words[2];

	if ((__u32)published != rest)
		return 0;
	words = after(words, published);
	return words[0] == high && words[1] == low ? published >> 32 : 0;
}

static __always_inline __u32 number_in_v4(const struct bucket_v4 *bucket, __u64 key)
{
	return number_v4(&bucket->entries[0], key) ?: number_v4(&bucket->entries[1], key) ?:
	       number_v4(&bucket->entries[2], key) ?: number_v4(&bucket->entries[3], key);
}

static __always_inline __u32 number_in_v6(const struct bucket_v6 *bucket, __u64 high, __u64 low, __u32 rest)
{
	return number_v6(&bucket->entries[0], high, low, rest) ?: number_v6(&bucket->entries[1], high, low, rest);
}

// Global, as the verifier says: it looks at it once, not for each call.
__noinline __u32 number_farther_v4(__u64 key, __u32 index)
{
	for (int tried = 1; tried < BUCKETS_TRIED; tried++) {
		const struct bucket_v4 *bucket;
		__u32 number;

		index = (index + 1) & bucket_mask_v4;
		bucket = bpf_map_lookup_elem(&buckets_v4, &index);
		if (!bucket)
			return 0;
		number = number_in_v4(bucket, key);
		if (number || !bucket->entries[0].overflow)
			return number;
	}
	return 0;
}

__noinline __u32 number_farther_v6(__u64 high, __u64 low, __u32 rest, __u32 index)
{
	for (int tried = 1; tried < BUCKETS_TRIED; tried++) {
		const struct bucket_v6 *bucket;
		__u32 number;

		index = (index + 1) & bucket_mask_v6;
		bucket = bpf_map_lookup_elem(&buckets_v6, &index);
		if (!bucket)
			return 0;
		number = number_in_v6(bucket, high, low, rest);
		if (number || !bucket->entries[0].overflow)
			return number;
	}
	return 0;
}

static __always_inline __u32 find_number_v4(__be32 address, __be16 port, __u8 protocol)
{
	const __u64 key = address | (__u64)port << 32 | (__u64)protocol << 48;
	const __u32 index = key * FACTOR_A >> hash_shift_v4;
	const struct bucket_v4 *bucket = bpf_map_lookup_elem(&buckets_v4, &index);
	__u32 number;

	if (!bucket)
		return 0;
	number = number_in_v4(bucket, key);
	if (!number && bucket->entries[0].overflow)
		number = number_farther_v4(key, index);
	return number;
}

static __always_inline __u32 find_number_v6(const __u32 address[4], __be16 port, __u8 protocol)
{
	const __u64 high = address[0] | (__u64)address[1] << 32;
	const __u64 low = address[2] | (__u64)address[3] << 32;
	const __u32 rest = port | (__u32)protocol << 16;
	const __u32 index = (high * FACTOR_A + low * FACTOR_B + rest * FACTOR_C) >> hash_shift_v6;
	const struct bucket_v6 *bucket = bpf_map_lookup_elem(&buckets_v6, &index);
	__u32 number;

	if (!bucket)
		return 0;
	number = number_in_v6(bucket, high, low, rest);
	if (!number && bucket->entries[0].overflow)
		number = number_farther_v6(high, low, rest, index);
	return number;
}

// Zero wraps to a line that no map has.
static __always_inline const struct frontend *frontend_of(__u32 number)
{
	const __u32 line = number - 1;

	return bpf_map_lookup_elem(&frontends, &line);
}

// NULL where there is none. What is found stays as it is until the program ends.
static __always_inline const struct frontend *find_v4(__be32 address, __be16 port, __u8 protocol)
{
	return frontend_of(find_number_v4(address, port, protocol));
}

static __always_inline const struct frontend *find_v6(const __u32 address[4], __be16 port, __u8 protocol)
{
	return frontend_of(find_number_v6(address, port, protocol));
}

#endif
