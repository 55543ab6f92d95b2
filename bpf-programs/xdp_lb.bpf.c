// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The load balancer: a packet for a VIP is put into an IP tunnel to the backend that its flow's hash chooses, and
// leaves; what is no VIP's goes to the kernel as it came. docs/datapath.md says what has to happen, README.md has the
// picture. This file is the short way, which nearly all packets go; whatever is odd leaves it for the long way.
#include "counters.h"
#include "encap.h"
#include "flows.h"
#include "forward.h"
#include "hash.h"
#include "lookup.h"
#include "maps.h"
#include "parse.h"
#ifdef RECORDING
#include "recorder.h"
#endif
#include "ring.h"
#include "sources.h"
#include "vip.h"

// A backend that the short way can send to: by the VIP's own family, without UDP, and the path is known.
static __always_inline int is_plain(const struct backend *backend)
{
	return (backend->flags & (READY | OTHER_FAMILY | GUE)) == READY;
}

// The lengths have been checked before; comparing with the end again is for the verifier, which wants to see a number.
static __always_inline __u32 traits_of(const struct ports *ports, __u8 protocol, const void *end)
{
	const __u8 *const flags = (const __u8 *)ports + TCP_FLAGS_AT;

	if (protocol != IPPROTO_TCP)
		return traits_of_udp();
	return (const void *)(flags + 1) <= end ? traits_of_tcp(*flags) : 0;
}

static __always_inline int is_frontend_v6(const __u32 address[4], __be16 port, __u8 protocol)
{
	return number_at_v6(address[0] | (__u64)address[1] << 32, address[2] | (__u64)address[3] << 32, port, protocol);
}

// Whether a record may say something else than the ring.
static __always_inline int may_be_kept(const struct frontend *frontend, __u32 hash, __u32 index)
{
	return (frontend->flags & RECORDS_ANYWHERE) || previous_index(frontend, hash) != index;
}

// For flows that may be kept; out of line for the sake of the stack.
static __noinline __u32 kept_index_v4(const struct frontend *frontend, const struct iphdr *ip, __u32 hash, __u32 index,
				      __u32 traits)
{
	const struct ports *const ports = (const void *)(ip + 1);
	struct asked asked __attribute__((aligned(8))) = { .hash = hash, .index = index, .traits = traits };
	__u32 *const source = (__u32 *)asked.key.source;
	__u32 *const destination = (__u32 *)asked.key.destination;

	source[2] = destination[2] = bpf_htonl(0xffff);
	source[3] = ip->saddr;
	destination[3] = ip->daddr;
	asked.key.source_port = ports->source;
	asked.key.destination_port = ports->destination;
	asked.key.protocol = ip->protocol;
	return kept_index(frontend, &asked);
}

static __noinline __u32 kept_index_v6(const struct frontend *frontend, const struct ipv6hdr *ip, __u32 hash,
				      __u32 index, __u32 traits)
{
	const struct ports *const ports = (const void *)(ip + 1);
	struct asked asked __attribute__((aligned(8))) = { .hash = hash, .index = index, .traits = traits };

	__builtin_memcpy(asked.key.source, &ip->saddr, 16);
	__builtin_memcpy(asked.key.destination, &ip->daddr, 16);
	asked.key.source_port = ports->source;
	asked.key.destination_port = ports->destination;
	asked.key.protocol = ip->nexthdr;
	return kept_index(frontend, &asked);
}

// From here on the packet is a client's, for a service, and whole.
static __always_inline int send_v4(struct xdp_md *ctx, const struct frontend *frontend, struct iphdr *ip,
				   struct ports *ports, __u32 traits)
{
	const __u32 hash = flow_hash_v4(ip->saddr, ports, ip->protocol, frontend->flow_seed);
	__u32 index = ring_index(frontend, hash);
	const struct backend *backend;
	const __u32 length = length_of(ip->tot_len);
	struct ethhdr *eth;
	__be32 source_low = 0;

	if ((frontend->flags & KEEP_FLOWS) && may_be_kept(frontend, hash, index))
		index = kept_index_v4(frontend, ip, hash, index, traits);
	backend = backend_at(frontend, index);
	if (!backend || !is_plain(backend) || length + sizeof(*ip) > backend->mtu)
		return forward_chosen(ctx, frontend, index, hash);

	if (backend->source_bits)
		source_low = source_bits_of(ip->saddr, ports, backend->source_bits);
	set_destination_port(ports, ip->protocol, backend->port, frame_end(ctx));

	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct iphdr)))
		return dropped(frontend->service, MALFORMED);
	eth = frame(ctx);
	ip = (void *)(eth + 1) + sizeof(*ip);
	if ((void *)(ip + 1) > frame_end(ctx))
		return dropped(frontend->service, MALFORMED);
	set_macs(eth, backend);
	eth->h_proto = bpf_htons(ETH_P_IP);
	write_outer_v4(eth + 1, ip, backend, source_low);
	count_sent(counter_of(frontend, index, backend), length, traits & IS_FIRST);
	return send(ctx, backend);
}

static __always_inline int send_v6(struct xdp_md *ctx, const struct frontend *frontend, struct ipv6hdr *ip,
				   struct ports *ports, __u32 traits)
{
	const __u32 *const client = (const __u32 *)&ip->saddr;
	const __u32 hash = flow_hash_v6(client, ports, ip->nexthdr, frontend->flow_seed);
	__u32 index = ring_index(frontend, hash);
	const struct backend *backend;
	const __u32 length = sizeof(*ip) + length_of(ip->payload_len);
	const struct ports client_ports = *ports;
	struct ethhdr *eth;

	if ((frontend->flags & KEEP_FLOWS) && may_be_kept(frontend, hash, index))
		index = kept_index_v6(frontend, ip, hash, index, traits);
	backend = backend_at(frontend, index);
	if (!backend || !is_plain(backend) || length + sizeof(*ip) > backend->mtu)
		return forward_chosen(ctx, frontend, index, hash);

	set_destination_port(ports, ip->nexthdr, backend->port, frame_end(ctx));

	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct ipv6hdr)))
		return dropped(frontend->service, MALFORMED);
	eth = frame(ctx);
	ip = (void *)(eth + 1) + sizeof(*ip);
	if ((void *)(ip + 1) > frame_end(ctx))
		return dropped(frontend->service, MALFORMED);
	set_macs(eth, backend);
	eth->h_proto = bpf_htons(ETH_P_IPV6);
	write_outer_v6(eth + 1, ip, backend, &client_ports);
	count_sent(counter_of(frontend, index, backend), length, traits & IS_FIRST);
	return send(ctx, backend);
}

static __always_inline int balance_v4(struct xdp_md *ctx)
{
	void *const end = frame_end(ctx);
	struct iphdr *const ip = frame(ctx) + sizeof(struct ethhdr);
	struct ports *const ports = (void *)(ip + 1);
	const struct frontend *frontend;
	__u32 length;
	__u32 traits;

	if ((void *)ports + sizeof(struct udphdr) > end || *(const __u8 *)ip != IPV4_PLAIN ||
	    (ip->frag_off & IPV4_MF_OR_OFFSET) || !is_tcp_or_udp(ip->protocol))
		return long_way(ctx);

	frontend = find_v4(ip->daddr, ports->destination, ip->protocol);
	if (!frontend)
		return settings.has_pools || number_at_v4(ip->daddr, 0, 0) ? long_way(ctx) : XDP_PASS;

	length = length_of(ip->tot_len);
	if (length < sizeof(*ip) + l4_header_bytes(ip->protocol) || (void *)ip + length > end || !ip->ttl ||
	    is_martian_v4(ip->saddr, ip->daddr))
		return long_way(ctx);
	traits = traits_of(ports, ip->protocol, end);
	if ((traits & TAKES_ANY_SLOT) && find_number_v4(ip->saddr, ports->source, ip->protocol))
		return long_way(ctx);
	if (frontend->flags & CAREFUL) {
		if (frontend->flags & (RANDOM | AFFINITY))
			return long_way(ctx);
		if (is_refused_v4(frontend, ip->saddr))
			return dropped(frontend->service, SOURCE_REFUSED);
	}
	return send_v4(ctx, frontend, ip, ports, traits);
}

static __always_inline int balance_v6(struct xdp_md *ctx)
{
	void *const end = frame_end(ctx);
	struct ipv6hdr *const ip = frame(ctx) + sizeof(struct ethhdr);
	struct ports *const ports = (void *)(ip + 1);
	const __u32 *const source = (const __u32 *)&ip->saddr;
	const __u32 *const destination = (const __u32 *)&ip->daddr;
	const struct frontend *frontend;
	__u32 length;
	__u32 traits;

	if ((void *)ports + sizeof(struct udphdr) > end || ip->version != 6 || !is_tcp_or_udp(ip->nexthdr))
		return long_way(ctx);

	frontend = find_v6(destination, ports->destination, ip->nexthdr);
	if (!frontend)
		return settings.has_pools || is_frontend_v6(destination, 0, 0) ? long_way(ctx) : XDP_PASS;

	length = length_of(ip->payload_len);
	if (length < l4_header_bytes(ip->nexthdr) || (void *)ports + length > end || !ip->hop_limit ||
	    is_martian_v6(source, destination))
		return long_way(ctx);
	traits = traits_of(ports, ip->nexthdr, end);
	if ((traits & TAKES_ANY_SLOT) && find_number_v6(source, ports->source, ip->nexthdr))
		return long_way(ctx);
	if (frontend->flags & CAREFUL) {
		if (frontend->flags & (RANDOM | AFFINITY))
			return long_way(ctx);
		if (is_refused_v6(frontend, source))
			return dropped(frontend->service, SOURCE_REFUSED);
	}
	return send_v6(ctx, frontend, ip, ports, traits);
}

#ifdef RECORDING
static __noinline int short_way(struct xdp_md *ctx)
#else
static __always_inline int short_way(struct xdp_md *ctx)
#endif
{
	const struct ethhdr *const eth = frame(ctx);

	if ((void *)(eth + 1) > frame_end(ctx))
		return XDP_PASS;
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		return balance_v4(ctx);
	if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		return balance_v6(ctx);
	if (eth->h_proto == bpf_htons(ETH_P_8021Q) || eth->h_proto == bpf_htons(ETH_P_8021AD))
		return long_way(ctx);
	return XDP_PASS;
}

#ifdef RECORDING
SEC("xdp")
int xdp_lb(struct xdp_md *ctx)
{
	int verdict;

	if (!begin_record(ctx))
		return short_way(ctx);
	verdict = short_way(ctx);
	end_record(ctx, verdict);
	return verdict;
}
#else
SEC("xdp")
int xdp_lb(struct xdp_md *ctx)
{
	return short_way(ctx);
}
#endif

char _license[] SEC("license") = "Dual BSD/GPL";
