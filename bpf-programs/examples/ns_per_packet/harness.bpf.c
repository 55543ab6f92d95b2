// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// For measuring. BPF_PROG_TEST_RUN repeats a program on what the last run left: `harness` makes a client's packet of it
// again, of another flow each time, and then calls the program that is measured. `generator` sends such packets to
// another device, and `sink` takes what comes back.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

const volatile __u32 flows = 1;
const volatile __u32 services = 1;
// The first of the VIPs: the last word of the address.
const volatile __u32 first_vip = 1;
const volatile __u32 is_ipv6 = 0;
// The byte of TCP's flags.
const volatile __u32 tcp_flags = 0;
// The frame as it was given, and the bytes that the measured program has put before it.
const volatile __u32 frame_bytes = 64;
const volatile __u32 put_before = 0;
// Where the generator sends to.
const volatile __u32 out_device = 0;

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} measured SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} rounds SEC(".maps");

// What has the length of the frame was not changed, or is the first.
static __always_inline int restore_length(struct xdp_md *ctx)
{
	int missing;

	if (ctx->data_end - ctx->data == frame_bytes)
		return 0;
	if (put_before && bpf_xdp_adjust_head(ctx, put_before))
		return -1;
	missing = (int)frame_bytes - (int)(ctx->data_end - ctx->data);
	return missing ? bpf_xdp_adjust_tail(ctx, missing) : 0;
}

// Murmur's finisher: the flows come in no order that a cache could guess.
static __always_inline __u32 flow_of(__u32 round)
{
	__u32 flow = round;

	flow = (flow ^ flow >> 16) * 0x85ebca6b;
	flow = (flow ^ flow >> 13) * 0xc2b2ae35;
	return (flow ^ flow >> 16) % flows;
}

// The packet of the next flow; zero if the frame has no room for it.
static __always_inline int write_packet(struct xdp_md *ctx)
{
	const __u32 zero = 0;
	__u32 *const round = bpf_map_lookup_elem(&rounds, &zero);
	const __u32 now = round ? *round : 0;
	const __u32 flow = flow_of(now);
	struct ethhdr *const eth = (void *)(long)ctx->data;
	struct tcphdr *tcp;

	if (!round)
		return 0;
	*round = now + 1;
	if (is_ipv6) {
		struct ipv6hdr *const ip = (void *)(eth + 1);

		tcp = (void *)(ip + 1);
		if ((void *)(tcp + 1) > (void *)(long)ctx->data_end)
			return 0;
		eth->h_proto = bpf_htons(ETH_P_IPV6);
		ip->saddr.s6_addr32[3] = bpf_htonl(flow);
		ip->daddr.s6_addr32[3] = bpf_htonl(first_vip + flow % services);
	} else {
		struct iphdr *const ip = (void *)(eth + 1);

		tcp = (void *)(ip + 1);
		if ((void *)(tcp + 1) > (void *)(long)ctx->data_end)
			return 0;
		eth->h_proto = bpf_htons(ETH_P_IP);
		ip->saddr = bpf_htonl(0x0a000000 + flow);
		ip->daddr = bpf_htonl(first_vip + flow % services);
	}
	tcp->source = bpf_htons(1024 + (flow & 0x3fff));
	tcp->dest = bpf_htons(80);
	if (tcp_flags)
		((__u8 *)tcp)[13] = tcp_flags;
	return 1;
}

SEC("xdp")
int harness(struct xdp_md *ctx)
{
	if (!restore_length(ctx) && write_packet(ctx))
		bpf_tail_call(ctx, &measured, 0);
	return XDP_ABORTED;
}

// The kernel gives the frame's length and place back by itself, not the bytes that were put before the packet.
SEC("xdp")
int generator(struct xdp_md *ctx)
{
	__u16 *const words = (void *)(long)ctx->data;

	if ((void *)(words + 6) > (void *)(long)ctx->data_end || !write_packet(ctx))
		return XDP_ABORTED;
	words[0] = words[3] = bpf_htons(0x0200);
	words[1] = words[4] = 0;
	words[2] = bpf_htons(2);
	words[5] = bpf_htons(1);
	return bpf_redirect(out_device, 0);
}

SEC("xdp")
int sink(struct xdp_md *ctx __attribute__((unused)))
{
	const __u32 zero = 0;
	__u32 *const taken = bpf_map_lookup_elem(&rounds, &zero);

	if (!taken)
		return XDP_ABORTED;
	*taken += 1;
	return XDP_DROP;
}

SEC("xdp")
int empty(struct xdp_md *ctx)
{
	return ctx->data ? XDP_TX : XDP_ABORTED;
}

char _license[] SEC("license") = "Dual BSD/GPL";
