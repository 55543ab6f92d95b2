//! `[[captures]]`.

use super::List;
use super::duration::Lasting;
use super::number::Within;
use super::size::Size;
use super::table::raw_table;
use super::word::{Name, NodeName, Refused, Word, word_schema};
use crate::model::{CAPTURE_FILES_DEFAULT, CAPTURE_SNAPLEN_MAX, CaptureFilter, CaptureFormat, FILTER_FORM};
use schemars::{Schema, json_schema};

/// Half of those that the kernel program can have at once: the others are for who asks the daemon.
pub(crate) const CAPTURES_MAX: usize = 16;

/// Filters of a capture; more say that a prefix is meant.
const FILTERS_MAX: usize = 64;

const KIB: u64 = 1 << 10;
const TIB: u64 = 1 << 40;

/// A second to thirty days.
type CaptureTime = Lasting<1_000, { 30 * 24 * 3_600_000 }>;

raw_table! {
    /// Packets of the load balancer that are written to files, as they come in and as they leave. The files of a capture
    /// lie in a folder of its name under `captures` in the state directory, with mode 0600. A capture that has reached
    /// one of its limits, or whose files cannot be written, is over until something is changed here; one that was
    /// interrupted with netd goes on in a new file.
    pub(crate) struct Capture {
        /// Unique among the captures, and the name of the folder; begins with a letter or a digit.
        required name: CaptureName, like "web";
        /// The nodes that record. Without it, all.
        optional nodes: List<NodeName, 1>, like ["lb-1"];
        /// Which packets: `SOURCE PORTS DESTINATION PORTS PROTOCOL`, where a prefix may be `any`, and ports may be a
        /// port, a range such as `8000-8099`, or `0` for all. A packet is recorded if one of them matches it as it came
        /// in.
        required filters: List<CaptureFilter, 1, FILTERS_MAX>, like ["10.0.0.0/8 0 192.0.2.10/32 80 TCP"];
        /// Bytes of each packet that are written at most; 128 has the headers.
        optional snaplen: Within<1, CAPTURE_SNAPLEN_MAX> = CAPTURE_SNAPLEN_MAX, like 128;
        /// Packets after which it is over. What came in and what left are two.
        optional packets: Within<1, { u32::MAX }>, like 100_000;
        /// Bytes of packets, as long as they were on the wire, after which it is over.
        optional bytes: Size<1, TIB>, like "1GiB";
        /// How long after its beginning it is over; the time when netd does not run counts, too.
        optional duration: CaptureTime, like "10m";
        /// The format of the files: `pcapng`, with interfaces `in` and `out`, the service and the backend, and what was
        /// lost; `pcap`, with packets and their times only.
        optional format: CaptureFormat = "pcapng", like "pcap";
        /// The next file is begun when one is so long.
        optional file_bytes: Size<{ 4 * KIB }, TIB>, like "64MiB";
        /// So many files of the capture are kept: when the next one is begun, the oldest is deleted.
        optional files: Within<1, 1000> = CAPTURE_FILES_DEFAULT, like 4;
    }
    at least one of [packets, bytes, duration, file_bytes]
}

word_schema!(CaptureName, CaptureFilter);

/// The name of a capture, which is that of a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CaptureName(pub(crate) String);

impl Word for CaptureName {
    const WHAT: &'static str = "the name of a capture";

    fn parse(text: &str) -> Result<Self, Refused> {
        let Name(name) = Name::parse(text)?;
        match name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
            true => Ok(Self(name)),
            false => Err(Refused::because("must begin with a letter or a digit: a folder is called so")),
        }
    }

    fn schema() -> Schema {
        let mut schema = <Name as Word>::schema();
        schema.insert("not".to_owned(), serde_json::json!({ "pattern": "^[._-]" }));
        schema
    }
}

impl Word for CaptureFilter {
    const WHAT: &'static str = "a filter";

    fn parse(text: &str) -> Result<Self, Refused> {
        text.parse::<Self>().map_err(Refused::because)
    }

    fn schema() -> Schema {
        json_schema!({
            "type": "string",
            "title": format!("a filter: {FILTER_FORM}"),
            "pattern": "^\\s*\\S+(\\s+\\S+){4}\\s*$",
        })
    }
}
