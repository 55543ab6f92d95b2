//! The files of captures: pcapng with what came in and what left as two interfaces, or classic pcap.

use netd_bpf::recorder::Counts;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::{PcapNgWriter, RawBlock};
use pcap_file::{DataLink, Endianness, PcapError, TsResolution};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::time::Duration;

/// The unit of times is 10^-9 s.
const NANOSECONDS: u8 = 9;

/// The option of a packet block that pairs what came in with what left (epb_packetid of pcapng, section 4.3).
const PACKET_ID: u16 = 5;
const COMMENT: u16 = 1;
const END_OF_OPTIONS: u16 = 0;
const ENHANCED_PACKET: u32 = 6;

/// What a block has around its body: its type, and its length twice.
const BLOCK_BYTES: usize = 12;

/// What a file of the classic format begins with.
const HEADER_BYTES: usize = 24;

/// What stands before a frame in the classic format.
const RECORD_BYTES: usize = 16;

/// The format of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Interfaces `in` and `out`, comments, what was lost.
    #[default]
    Pcapng,
    /// Frames and their times only.
    Pcap,
}

/// Where a frame was seen: the number of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// As it came in.
    In,
    /// As it left.
    Out,
}

/// A frame for a file.
pub struct Seen<'a> {
    /// Where.
    pub point: Point,
    /// When, since 1970.
    pub at: Duration,
    /// The same of what came in and of what left.
    pub id: u64,
    /// How long it was.
    pub bytes: u32,
    /// The beginning of it.
    pub frame: &'a [u8],
    /// What is known of it.
    pub comment: Option<&'a str>,
}

/// Writes a file into memory, from where it is taken in whole blocks.
pub struct File(Writer);

enum Writer {
    Pcapng(Box<PcapNgWriter<Vec<u8>>>),
    Pcap {
        writer: PcapWriter<Vec<u8>>,
        header: PcapHeader,
        /// Bytes of a header that the file has already.
        skip: usize,
    },
}

impl Format {
    /// What the names of such files end with.
    #[must_use]
    pub fn ending(self) -> &'static str {
        match self {
            Self::Pcapng => "pcapng",
            Self::Pcap => "pcap",
        }
    }
}

impl File {
    /// A file that begins.
    ///
    /// # Errors
    ///
    /// The library's; memory can be written to.
    pub fn begin(format: Format, snaplen: u32, filters: &[String]) -> Result<Self, PcapError> {
        if format == Format::Pcap {
            let header = PcapHeader {
                snaplen,
                datalink: DataLink::ETHERNET,
                ts_resolution: TsResolution::NanoSecond,
                endianness: Endianness::native(),
                ..PcapHeader::default()
            };
            let writer = PcapWriter::with_header(Vec::new(), header)?;
            return Ok(Self(Writer::Pcap { writer, header, skip: 0 }));
        }
        let version = concat!("netd ", env!("CARGO_PKG_VERSION"));
        let section = SectionHeaderBlock {
            endianness: Endianness::native(),
            options: vec![SectionHeaderOption::UserApplication(version.into())],
            ..SectionHeaderBlock::default()
        };
        let mut writer = PcapNgWriter::with_section_header(Vec::new(), section)?;
        let filter = filters.join("; ");
        for (name, about) in [("in", "as it came in"), ("out", "as it left")] {
            let options = vec![
                InterfaceDescriptionOption::IfName(name.into()),
                InterfaceDescriptionOption::IfDescription(about.into()),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
                InterfaceDescriptionOption::Comment(Cow::Owned(filter.clone())),
            ];
            let block = InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen, options };
            writer.write_pcapng_block(block)?;
        }
        Ok(Self(Writer::Pcapng(Box::new(writer))))
    }

    /// Adds a frame: so many bytes longer is the file.
    ///
    /// # Errors
    ///
    /// As [`File::begin`].
    pub fn add(&mut self, seen: &Seen<'_>) -> Result<usize, PcapError> {
        match &mut self.0 {
            Writer::Pcap { writer, .. } => {
                writer.write_packet(&PcapPacket::new(seen.at, seen.bytes, seen.frame))?;
                Ok(RECORD_BYTES + seen.frame.len())
            }
            Writer::Pcapng(writer) => {
                let body = packet(seen);
                let length = u32::try_from(body.len() + BLOCK_BYTES).unwrap_or(u32::MAX);
                let block = RawBlock {
                    type_: ENHANCED_PACKET,
                    initial_len: length,
                    body: body.into(),
                    trailer_len: length,
                };
                writer.write_raw_block(&block)?;
                Ok(length as usize)
            }
        }
    }

    /// Ends it with what was captured and what was lost.
    ///
    /// # Errors
    ///
    /// As [`File::begin`].
    pub fn end(&mut self, at: Duration, written: u64, lost: Counts) -> Result<(), PcapError> {
        let Writer::Pcapng(writer) = &mut self.0 else { return Ok(()) };
        let comment =
            format!("both interfaces: {} packets ({} bytes) lost", lost.lost_packets, lost.lost_bytes);
        let block = InterfaceStatisticsBlock {
            interface_id: 0,
            // The upper half stands first, which the library does not see to here.
            timestamp: u64::try_from(at.as_nanos()).unwrap_or(u64::MAX).rotate_left(32),
            options: vec![
                InterfaceStatisticsOption::IsbIfRecv(written.saturating_add(lost.lost_packets)),
                InterfaceStatisticsOption::IsbIfDrop(lost.lost_packets),
                InterfaceStatisticsOption::IsbUsrDeliv(written),
                InterfaceStatisticsOption::Comment(comment.into()),
            ],
        };
        writer.write_pcapng_block(block).map(drop)
    }

    /// Takes what was written since the last time: whole blocks.
    pub fn take(&mut self) -> Vec<u8> {
        match &mut self.0 {
            Writer::Pcapng(writer) => std::mem::take(writer.get_mut()),
            Writer::Pcap { writer, header, skip } => {
                // Writing a header into memory does not fail; should it, nothing is taken this time.
                let Ok(next) = PcapWriter::with_header(Vec::new(), *header) else { return Vec::new() };
                let mut written = std::mem::replace(writer, next).into_writer();
                written.drain(..(*skip).min(written.len()));
                *skip = HEADER_BYTES;
                written
            }
        }
    }
}

/// The body of an enhanced packet block: the library's own knows no packet id.
fn packet(seen: &Seen<'_>) -> Vec<u8> {
    let nanoseconds = u64::try_from(seen.at.as_nanos()).unwrap_or(u64::MAX);
    let interface: u32 = match seen.point {
        Point::In => 0,
        Point::Out => 1,
    };
    let kept = u32::try_from(seen.frame.len()).unwrap_or(u32::MAX);
    let mut body = Vec::with_capacity(seen.frame.len() + 64);
    for word in [interface, (nanoseconds >> 32) as u32, nanoseconds as u32, kept, seen.bytes] {
        body.extend(word.to_ne_bytes());
    }
    body.extend(seen.frame);
    pad(&mut body);
    let mut option = |code: u16, value: &[u8]| {
        let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
        body.extend(code.to_ne_bytes());
        body.extend((value.len() as u16).to_ne_bytes());
        body.extend(value);
        pad(&mut body);
    };
    option(PACKET_ID, &seen.id.to_ne_bytes());
    if let Some(comment) = seen.comment {
        option(COMMENT, comment.as_bytes());
    }
    option(END_OF_OPTIONS, &[]);
    body
}

/// Everything stands at a multiple of four bytes.
fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}
