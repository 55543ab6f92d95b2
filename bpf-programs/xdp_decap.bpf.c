// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The backend's side, for laboratories and tests without tunnel devices: takes the outer header off IPv4 or IPv6 in
// IPv4 or IPv6 and gives the inner packet to the kernel. Whom the tunnel is from or to is not looked at.
#include "parse.h"

// The Ethernet type of what a tunnel carries; zero if it is no tunnel.
static __always_inline __be16 inner_type(__u8 protocol)
{
	if (protocol == IPPROTO_IPIP)
		return bpf_htons(ETH_P_IP);
	return protocol == IPPROTO_IPV6 ? bpf_htons(ETH_P_IPV6) : 0;
}

static __always_inline int strip(struct xdp_md *ctx, __u32 outer_bytes, __be16 type)
{
	struct ethhdr *eth = frame(ctx);
	struct ethhdr kept;

	if ((void *)(eth + 1) > frame_end(ctx))
		return XDP_PASS;
	kept = *eth;
	kept.h_proto = type;
	if (bpf_xdp_adjust_head(ctx, (int)outer_bytes))
		return XDP_PASS;
	eth = frame(ctx);
	if ((void *)(eth + 1) > frame_end(ctx))
		return XDP_DROP;
	*eth = kept;
	return XDP_PASS;
}

SEC("xdp")
int xdp_decap(struct xdp_md *ctx)
{
	const struct ethhdr *const eth = frame(ctx);
	const struct iphdr *const ip = (const void *)(eth + 1);
	const struct ipv6hdr *const ip6 = (const void *)(eth + 1);
	const void *const end = frame_end(ctx);
	__be16 type;

	if ((const void *)(ip + 1) > end)
		return XDP_PASS;
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		type = inner_type(ip->protocol);
		if (!type || ip->ihl != 5 || (ip->frag_off & IPV4_MF_OR_OFFSET))
			return XDP_PASS;
		return strip(ctx, sizeof(*ip), type);
	}
	if (eth->h_proto == bpf_htons(ETH_P_IPV6) && (const void *)(ip6 + 1) <= end) {
		type = inner_type(ip6->nexthdr);
		return type ? strip(ctx, sizeof(*ip6), type) : XDP_PASS;
	}
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
