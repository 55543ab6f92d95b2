// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The hashes that choose a backend and an outer source. Other load balancers of the tier compute the same, from words
// loaded as a little-endian CPU loads them.
#ifndef NETD_HASH_H
#define NETD_HASH_H

#include <linux/types.h>

#include "parse.h"

static __always_inline __u32 rotate_left(__u32 word, __u32 bits)
{
	return (word << bits) | (word >> (32 - bits));
}

// Bob Jenkins' lookup3, as the kernel has it.
#define JENKINS_MIX(a, b, c)                              \
	do {                                              \
		a -= c; a ^= rotate_left(c, 4);  c += b;  \
		b -= a; b ^= rotate_left(a, 6);  a += c;  \
		c -= b; c ^= rotate_left(b, 8);  b += a;  \
		a -= c; a ^= rotate_left(c, 16); c += b;  \
		b -= a; b ^= rotate_left(a, 19); a += c;  \
		c -= b; c ^= rotate_left(b, 4);  b += a;  \
	} while (0)

#define JENKINS_FINAL(a, b, c)                            \
	do {                                              \
		c ^= b; c -= rotate_left(b, 14);          \
		a ^= c; a -= rotate_left(c, 11);          \
		b ^= a; b -= rotate_left(a, 25);          \
		c ^= b; c -= rotate_left(b, 16);          \
		a ^= c; a -= rotate_left(c, 4);           \
		b ^= a; b -= rotate_left(a, 14);          \
		c ^= b; c -= rotate_left(b, 24);          \
	} while (0)

#define JENKINS_INITIAL 0xdeadbeef

// The VIP is left out, so that a client's socket meets the same backend behind every VIP of a service.
static __always_inline __u32 flow_hash_v4(__u32 client, const struct ports *ports, __u8 protocol, __u32 seed)
{
	const __u32 initial = seed + JENKINS_INITIAL + 12;
	__u32 a = initial + client;
	__u32 b = initial + (((__u32)ports->source << 16) | ports->destination);
	__u32 c = initial + protocol;

	JENKINS_FINAL(a, b, c);
	return c;
}

static __always_inline __u32 flow_hash_v6(const __u32 client[4], const struct ports *ports, __u8 protocol, __u32 seed)
{
	__u32 a = client[0], b = client[1], c = client[2];

	JENKINS_MIX(a, b, c);
	a += client[3];
	b += ((__u32)ports->source << 16) | ports->destination;
	c += protocol;
	JENKINS_MIX(a, b, c);
	a += seed;
	JENKINS_FINAL(a, b, c);
	return c;
}

// The top `bits` bits of a multiplicative hash, in network order; `bits` is 1 to 32.
static __always_inline __be32 source_bits_of(__u32 client, const struct ports *ports, __u32 bits)
{
	const __u32 hint = ((__u32)ports->destination << 16) | ports->source;
	const __u32 hashed = (client ^ hint) * 0x61C88647u;

	return bpf_htonl(hashed >> ((32 - bits) & 31));
}

#endif
