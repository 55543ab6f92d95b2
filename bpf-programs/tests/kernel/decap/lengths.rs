//! Every length: frames that end anywhere, and every number in the fields that say how long something is.

use super::bed::{Bed, V4, V6, Way, inner_packets};
use super::model::Counted;
use crate::bed::in_own_world;

/// The least that a test run takes for a frame.
const FRAME_MIN: usize = 14;

#[test]
fn a_frame_that_ends_anywhere_is_never_taken_and_never_wrong() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        for way in Way::all() {
            for inner in inner_packets() {
                for way in [way, way.of_stranger()] {
                    let whole = way.frame(&inner);
                    for end in FRAME_MIN..whole.len() {
                        let (_, _, counted) = bed.run(&whole[..end]);
                        assert!(!matches!(counted, Counted::Taken(_)), "{end} of {way:?}");
                    }
                    bed.run(&whole);
                }
            }
        }
    });
}

#[test]
fn a_frame_that_ends_in_the_inner_header_is_malformed_and_a_strangers_passes() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        for way in Way::all() {
            for inner in inner_packets() {
                let header = if inner[0] >> 4 == 4 { 20 } else { 40 };
                // GUE is known by the first byte behind UDP.
                for bytes in 1..header {
                    let end = way.inner_at() + bytes;
                    bed.drops(&way.frame(&inner)[..end], Counted::Malformed);
                    bed.passes(&way.of_stranger().frame(&inner)[..end]);
                }
                // Whole, it says for whom it is.
                let end = way.inner_at() + header;
                bed.drops(&way.frame(&inner)[..end], Counted::Malformed);
                bed.drops(&way.of_stranger().frame(&inner)[..end], Counted::Strangers);
            }
        }
    });
}

/// Writes every number into a field of two bytes.
fn every_number(bed: &mut Bed, frame: &[u8], at: usize) -> Vec<u16> {
    let mut frame = frame.to_vec();
    let mut taken = Vec::new();
    for number in 0..=u16::MAX {
        frame[at..at + 2].copy_from_slice(&number.to_be_bytes());
        if matches!(bed.run(&frame).2, Counted::Taken(_)) {
            taken.push(number);
        }
    }
    taken
}

#[test]
fn every_length_of_outer_udp_and_inner_header() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        let [inner, _, inner6, _] = inner_packets();
        for way in [V4, V6, Way { is_gue: true, ..V4 }, Way { is_gue: true, ..V6 }] {
            for inner in [&inner, &inner6] {
                // Three bytes of the link behind everything.
                let frame = [way.frame(inner), vec![0; 3]].concat();
                let length = (frame.len() - way.outer_at() - 3) as u16;
                let (field, said) = if way.is_v4() { (2, length) } else { (4, length - 40) };
                let at = way.outer_at() + field;
                assert_eq!(every_number(&mut bed, &frame, at), (said..=said + 3).collect::<Vec<_>>());
                if way.is_gue {
                    let (at, said) = (way.inner_at() - 4, inner.len() as u16 + 8);
                    assert_eq!(every_number(&mut bed, &frame, at), [said]);
                }
                let (at, least, said) = match inner[0] >> 4 {
                    4 => (way.inner_at() + 2, 20, inner.len() as u16),
                    _ => (way.inner_at() + 4, 0, inner.len() as u16 - 40),
                };
                assert_eq!(every_number(&mut bed, &frame, at), (least..=said).collect::<Vec<_>>());
            }
        }
    });
}

#[test]
fn every_first_byte_of_the_inner_and_of_the_outer_header() {
    in_own_world(|root| {
        let mut bed = Bed::new(root);
        for way in Way::all() {
            for inner in inner_packets() {
                for at in [way.outer_at(), way.inner_at()] {
                    let mut frame = way.frame(&inner);
                    for byte in 0..=u8::MAX {
                        frame[at] = byte;
                        bed.run(&frame);
                    }
                }
            }
        }
    });
}
