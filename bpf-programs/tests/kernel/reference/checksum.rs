//! The Internet checksum (RFC 1071), always over everything.

/// Of parts of which only the last may have an odd length.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    !sum(parts)
}

/// The checksum that a changed message has to carry so that it is exactly as right or wrong as it was: the sums over
/// everything, the checksum included, are the same before and after. `at` is where the checksum lies in the message.
pub fn carried_over(before: &[u8], after: &[u8], at: usize) -> [u8; 2] {
    let mut blank = after.to_vec();
    blank[at..at + 2].fill(0);
    let (kept, rest) = (sum(&[before]), sum(&[&blank]));
    // Of the two zeros of ones' complement this is 0.
    let missing = (u32::from(kept) + 0xffff - u32::from(rest)) % 0xffff;
    (missing as u16).to_be_bytes()
}

fn sum(parts: &[&[u8]]) -> u16 {
    let mut sum: u64 = 0;
    for part in parts {
        let (pairs, odd) = part.as_chunks::<2>();
        sum += pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum::<u64>();
        sum += odd.first().map_or(0, |byte| u64::from(*byte) << 8);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Whether the IPv4 header's and the segment's checksums of a frame are right.
pub fn are_right(frame: &[u8]) -> bool {
    let packet = super::packet::Packet::parse(frame).expect("an IP packet");
    let (header, addresses) = match packet.is_v4() {
        true => (checksum(&[&packet.ip[..packet.header]]) == 0, &packet.ip[12..20]),
        false => (true, &packet.ip[8..40]),
    };
    let segment = packet.from(packet.header);
    let length = (segment.len() as u32).to_be_bytes();
    header && checksum(&[addresses, &length, &[0, packet.first().protocol], segment]) == 0
}
