#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn filter(source: &str, destination: &str) -> Filter {
    Filter {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        source_ports: ANY_PORT,
        destination_ports: ANY_PORT,
        protocol: None,
    }
}

fn captures(filters: &[Filter]) -> BTreeMap<u8, Vec<Filter>> {
    BTreeMap::from([(0, filters.to_vec())])
}

#[test]
fn blocks_have_the_ports_of_the_range_and_no_others() {
    for range in [0..=65535, 80..=80, 1..=1023, 1000..=2000, 0..=0, 65535..=65535, 1..=65534, 7..=8] {
        let blocks = blocks(&range);
        for port in 0..=u16::MAX {
            let found = blocks.iter().filter(|block| port & block.mask() == block.first).count();
            assert_eq!(found, usize::from(range.contains(&port)), "port {port} of {range:?}");
        }
    }
}

#[test]
fn ports_without_a_protocol_are_those_of_protocols_that_have_ports() {
    let filter = Filter { destination_ports: 0..=1023, ..filter("10.0.0.0/8", "192.0.2.10/32") };
    let protocols: Vec<u8> = filter.lower().into_iter().map(|(_, key)| key.protocol).collect();
    assert_eq!(protocols, WITH_PORTS);
}

#[test]
fn masks_that_stay_keep_their_numbers() {
    let (wide, narrow, third) =
        (filter("0.0.0.0/0", "192.0.2.0/24"), filter("10.0.0.0/8", "192.0.2.10/32"), filter("::/0", "::/0"));
    let before = Table::default().after(&captures(&[wide.clone(), narrow.clone()])).unwrap();
    let after = before.after(&captures(&[third, narrow.clone()])).unwrap();
    let shape = narrow.lower().first().unwrap().0;
    assert_eq!(before.masks[&shape], after.masks[&shape]);
    assert_eq!(after.active(), (1 << after.masks[&shape], 1));
}

#[test]
fn more_masks_than_there_can_be_are_refused_with_their_number() {
    let filters: Vec<Filter> =
        (8..=24).map(|bits| filter(&format!("10.0.0.0/{bits}"), "0.0.0.0/0")).collect();
    assert_eq!(Table::default().after(&captures(&filters)), Err(TooManyMasks { is_v6: false, needed: 17 }));
    assert!(Table::default().after(&captures(&filters[1..])).is_ok());
}

#[test]
fn captures_with_equal_filters_share_their_entries() {
    let same = vec![filter("10.0.0.0/8", "192.0.2.10/32")];
    let table = Table::default().after(&BTreeMap::from([(3, same.clone()), (31, same)])).unwrap();
    assert_eq!(table.entries.values().collect::<Vec<_>>(), [&(1 << 3 | 1 << 31)]);
}
