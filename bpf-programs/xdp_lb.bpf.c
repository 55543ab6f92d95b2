// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The load balancer: a packet for a VIP is put into an IP tunnel to the backend that its flow's hash chooses, and
// leaves; every other packet goes to the kernel as it came. README.md has the picture.
#include "counters.h"
#include "encap.h"
#include "flows.h"
#include "hash.h"
#include "lookup.h"
#include "maps.h"
#include "parse.h"
#include "ring.h"

// What the current ring gives to a flow; NO_INDEX if the service has no backend.
static __always_inline __u32 ring_index(const struct frontend *frontend, __u32 hash)
{
	const __u32 slot = slot_of(hash, frontend->slots, frontend->slots_magic);

	if (!frontend->slots)
		return NO_INDEX;
	return index_in(frontend->ring, slot, frontend->flags & WIDE_SLOTS);
}

static __always_inline const struct backend *backend_v4(const struct frontend *frontend, const struct iphdr *ip,
							const struct ports *ports, const void *end)
{
	const __u32 hash = flow_hash_v4(ip->saddr, ports, ip->protocol, frontend->flow_seed);
	__u32 index = ring_index(frontend, hash);

	if (index != NO_INDEX && (frontend->flags & KEEP_FLOWS)) {
		struct moved_flow moved __attribute__((aligned(8))) = { .hash = hash, .index = index };

		moved.is_first = is_first_of_tcp(ports, ip->protocol, end);
		moved.key.source[10] = moved.key.source[11] = 0xff;
		moved.key.destination[10] = moved.key.destination[11] = 0xff;
		__builtin_memcpy(&moved.key.source[12], &ip->saddr, 4);
		__builtin_memcpy(&moved.key.destination[12], &ip->daddr, 4);
		moved.key.source_port = ports->source;
		moved.key.destination_port = ports->destination;
		moved.key.protocol = ip->protocol;
		index = kept_index(frontend, &moved);
	}
	return backend_at(frontend, index);
}

static __always_inline const struct backend *backend_v6(const struct frontend *frontend, const struct ipv6hdr *ip,
							const struct ports *ports, const void *end)
{
	const __u32 *const client = (const __u32 *)&ip->saddr;
	const __u32 hash = flow_hash_v6(client, ports, ip->nexthdr, frontend->flow_seed);
	__u32 index = ring_index(frontend, hash);

	if (index != NO_INDEX && (frontend->flags & KEEP_FLOWS)) {
		struct moved_flow moved __attribute__((aligned(8))) = { .hash = hash, .index = index };

		moved.is_first = is_first_of_tcp(ports, ip->nexthdr, end);
		__builtin_memcpy(moved.key.source, &ip->saddr, 16);
		__builtin_memcpy(moved.key.destination, &ip->daddr, 16);
		moved.key.source_port = ports->source;
		moved.key.destination_port = ports->destination;
		moved.key.protocol = ip->nexthdr;
		index = kept_index(frontend, &moved);
	}
	return backend_at(frontend, index);
}

// From here on the packet is the client's, for a service, and whole.
static __always_inline int send_v4(struct xdp_md *ctx, const struct frontend *frontend, struct iphdr *ip,
				   struct ports *ports)
{
	const struct backend *const backend = backend_v4(frontend, ip, ports, frame_end(ctx));
	const struct inner_v4 inner = inner_v4_of(ip);
	struct ethhdr *eth;
	__be32 source_low = 0;

	if (!backend)
		return dropped(frontend, NO_BACKEND);
	if (!(backend->flags & READY))
		return dropped(frontend, NO_NEXT_HOP);
	if (inner.length + sizeof(struct iphdr) > LONGEST_IP)
		return dropped(frontend, MALFORMED);

	if (backend->source_bits)
		source_low = source_bits_of(ip->saddr, ports, backend->source_bits);
	set_destination_port(ports, ip->protocol, backend->port, frame_end(ctx));

	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct iphdr)))
		return dropped(frontend, MALFORMED);
	eth = frame(ctx);
	if ((void *)(eth + 1) + sizeof(struct iphdr) > frame_end(ctx))
		return dropped(frontend, MALFORMED);
	set_macs(eth, backend);
	eth->h_proto = bpf_htons(ETH_P_IP);
	write_outer_v4(eth + 1, &inner, backend, source_low);
	count_sent(backend, inner.length);
	return send(ctx, backend);
}

static __always_inline int send_v6(struct xdp_md *ctx, const struct frontend *frontend, struct ipv6hdr *ip,
				   struct ports *ports)
{
	const struct backend *const backend = backend_v6(frontend, ip, ports, frame_end(ctx));
	const struct inner_v6 inner = inner_v6_of(ip);
	const struct ports client_ports = *ports;
	struct ethhdr *eth;

	if (!backend)
		return dropped(frontend, NO_BACKEND);
	if (!(backend->flags & READY))
		return dropped(frontend, NO_NEXT_HOP);
	if (inner.payload_length + sizeof(struct ipv6hdr) > LONGEST_IP)
		return dropped(frontend, MALFORMED);

	set_destination_port(ports, ip->nexthdr, backend->port, frame_end(ctx));

	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct ipv6hdr)))
		return dropped(frontend, MALFORMED);
	eth = frame(ctx);
	if ((void *)(eth + 1) + sizeof(struct ipv6hdr) > frame_end(ctx))
		return dropped(frontend, MALFORMED);
	set_macs(eth, backend);
	eth->h_proto = bpf_htons(ETH_P_IPV6);
	write_outer_v6(eth + 1, &inner, backend, &client_ports);
	count_sent(backend, inner.payload_length + sizeof(struct ipv6hdr));
	return send(ctx, backend);
}

static __always_inline int balance_v4(struct xdp_md *ctx)
{
	void *const end = frame_end(ctx);
	struct iphdr *const ip = frame(ctx) + sizeof(struct ethhdr);
	const struct frontend *frontend;
	struct ports *ports;
	__u32 header_bytes;
	__u32 length;

	// Fragments are the kernel's: all but the first have no ports.
	if ((void *)(ip + 1) > end || ip->version != 4 || !is_tcp_or_udp(ip->protocol))
		return XDP_PASS;
	header_bytes = ip->ihl * 4;
	if (header_bytes < sizeof(*ip) || (ip->frag_off & IPV4_MF_OR_OFFSET))
		return XDP_PASS;
	ports = (void *)ip + header_bytes;
	if ((void *)(ports + 1) > end)
		return XDP_PASS;

	frontend = find_v4(ip->daddr, ports->destination, ip->protocol);
	if (!frontend)
		return XDP_PASS;

	// Lengths that lie, or a header cut off: the kernel drops and counts it, or answers.
	length = length_of(ip->tot_len);
	if (length < header_bytes + l4_header_bytes(ip->protocol) || (void *)ip + length > end)
		return XDP_PASS;
	return send_v4(ctx, frontend, ip, ports);
}

static __always_inline int balance_v6(struct xdp_md *ctx)
{
	void *const end = frame_end(ctx);
	struct ipv6hdr *const ip = frame(ctx) + sizeof(struct ethhdr);
	struct ports *const ports = (void *)(ip + 1);
	const struct frontend *frontend;
	__u32 length;

	// Extension headers, fragments among them, are the kernel's.
	if ((void *)(ports + 1) > end || ip->version != 6 || !is_tcp_or_udp(ip->nexthdr))
		return XDP_PASS;

	frontend = find_v6((const __u32 *)&ip->daddr, ports->destination, ip->nexthdr);
	if (!frontend)
		return XDP_PASS;

	length = length_of(ip->payload_len);
	if (length < l4_header_bytes(ip->nexthdr) || (void *)ports + length > end)
		return XDP_PASS;
	return send_v6(ctx, frontend, ip, ports);
}

SEC("xdp")
int xdp_lb(struct xdp_md *ctx)
{
	const struct ethhdr *const eth = frame(ctx);

	if ((void *)(eth + 1) > frame_end(ctx))
		return XDP_PASS;
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		return balance_v4(ctx);
	if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		return balance_v6(ctx);
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
