// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Who may be a client: addresses that nobody has, services, and whom a service has listed.
#ifndef NETD_SOURCES_H
#define NETD_SOURCES_H

#include <linux/types.h>

#include <bpf/bpf_helpers.h>

#include "lookup.h"
#include "packet.h"

static __always_inline int is_martian_v4(__be32 source, __be32 destination)
{
	const __u8 first = source;

	return first == 0 || first == 127 || first >= 224 || source == destination;
}

static __always_inline int is_martian_v6(const __u32 source[4], const __u32 destination[4])
{
	if ((source[0] & 0xff) == 0xff)
		return 1;
	if (!source[0] && !source[1] &&
	    (source[2] == bpf_htonl(0xffff) || (!source[2] && (!source[3] || source[3] == bpf_htonl(1)))))
		return 1;
	return source[0] == destination[0] && source[1] == destination[1] && source[2] == destination[2] &&
	       source[3] == destination[3];
}

// Out of line, for whatever is not the packet's own frontend; zero where there is none.
__noinline __u32 number_at_v4(__be32 address, __be16 port, __u8 protocol)
{
	return find_number_v4(address, port, protocol);
}

__noinline __u32 number_at_v6(__u64 high, __u64 low, __be16 port, __u8 protocol)
{
	const __u32 address[4] = { high, high >> 32, low, low >> 32 };

	return find_number_v6(address, port, protocol);
}

static __always_inline __u32 number_at(const __u8 address[16], __be16 port, __u8 protocol, int is_v6)
{
	const __u64 *const words = (const __u64 *)address;

	return is_v6 ? number_at_v6(words[0], words[1], port, protocol) : number_at_v4(words[1] >> 32, port, protocol);
}

static __always_inline const struct frontend *frontend_at(const __u8 address[16], __be16 port, __u8 protocol, int is_v6)
{
	return frontend_of(number_at(address, port, protocol, is_v6));
}

// Two services that answer each other would never end.
static __always_inline int is_from_a_service(const struct packet *packet)
{
	const struct flow_key *const key = &packet->asked.key;

	return packet->has_ports && (packet->asked.traits & TAKES_ANY_SLOT) &&
	       number_at(key->source, key->source_port, key->protocol, packet->is_v6);
}

static __always_inline int has_martian_address(const struct packet *packet)
{
	const __u32 *const source = (const __u32 *)packet->asked.key.source;
	const __u32 *const destination = (const __u32 *)packet->asked.key.destination;

	return packet->is_v6 ? is_martian_v6(source, destination) : is_martian_v4(source[3], destination[3]);
}

// Of clients of IPv4, the address is mapped.
static __always_inline int is_refused(const struct frontend *frontend, const __u32 client[4])
{
	struct source_key key = { .bits = 8 * (sizeof(key) - sizeof(key.bits)), .service = frontend->service };
	const struct source *source;

	__builtin_memcpy(key.address, client, sizeof(key.address));
	source = bpf_map_lookup_elem(&sources, &key);
	if (!source)
		return frontend->flags & SOURCES_LISTED;
	return source->verdict == SOURCE_DENIED;
}

// For the short way; out of line for the sake of the stack.
static __noinline int is_refused_v4(const struct frontend *frontend, __be32 client)
{
	const __u32 mapped[4] = { 0, 0, bpf_htonl(0xffff), client };

	return is_refused(frontend, mapped);
}

static __noinline int is_refused_v6(const struct frontend *frontend, const __u32 client[4])
{
	return is_refused(frontend, client);
}

#endif
