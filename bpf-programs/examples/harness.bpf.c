// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// For measuring: BPF_PROG_TEST_RUN repeats a program on what the last run left. This one makes a client's packet of it
// again, of another flow each time, and then calls the program that is measured.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define FRAME_BYTES 64

const volatile __u32 flows = 1;
const volatile __u32 services = 1;

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

SEC("xdp")
int harness(struct xdp_md *ctx)
{
	const int grown = (int)(ctx->data_end - ctx->data) - FRAME_BYTES;
	const __u32 zero = 0;
	__u32 *const round = bpf_map_lookup_elem(&rounds, &zero);
	struct ethhdr *eth;
	struct iphdr *ip;
	struct tcphdr *tcp;
	__u32 flow;

	if (!round || (grown > 0 && bpf_xdp_adjust_head(ctx, grown)))
		return XDP_ABORTED;
	eth = (void *)(long)ctx->data;
	ip = (void *)(eth + 1);
	tcp = (void *)(ip + 1);
	if ((void *)(tcp + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	// Murmur's finisher: the flows come in no order that a cache could guess.
	flow = (*round)++;
	flow = (flow ^ flow >> 16) * 0x85ebca6b;
	flow = (flow ^ flow >> 13) * 0xc2b2ae35;
	flow = (flow ^ flow >> 16) % flows;
	eth->h_proto = bpf_htons(ETH_P_IP);
	ip->saddr = bpf_htonl(0x0a000000 + flow);
	ip->daddr = bpf_htonl(0xc0000000 + flow % services);
	tcp->source = bpf_htons(1024 + (flow & 0x3fff));
	bpf_tail_call(ctx, &measured, 0);
	return XDP_ABORTED;
}

SEC("xdp")
int empty(struct xdp_md *ctx)
{
	return ctx->data ? XDP_TX : XDP_ABORTED;
}

char _license[] SEC("license") = "Dual BSD/GPL";
