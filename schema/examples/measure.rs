//! Prints how long a large file takes to parse, and how much memory: `cargo run --release -p netd-schema --example
//! measure [SERVICES [BACKENDS]]`, or the diagnostics of a file: `… --example measure FILE`.

use std::fmt::Write as _;
use std::time::Instant;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(path) = arguments.first().filter(|argument| argument.parse::<usize>().is_err()) {
        let bytes = std::fs::read(path).expect("the file is readable");
        match netd_schema::parse(path, &bytes) {
            Ok(parsed) => println!("{}{:#?}", parsed.warnings, parsed.config),
            Err(found) => print!("{}", found.render(true)),
        }
        return;
    }
    let number = |at: usize, default| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let text = large_file(number(0, 10_000), number(1, 10));
    let mut times: Vec<_> = (0..5)
        .map(|_| {
            let start = Instant::now();
            let parsed = netd_schema::parse("large.toml", text.as_bytes());
            assert!(parsed.is_ok(), "{}", parsed.err().map(|found| found.render(false)).unwrap_or_default());
            start.elapsed()
        })
        .collect();
    times.sort();
    println!(
        "{} bytes; median {:?}, best {:?}; peak memory {}",
        text.len(),
        times[2],
        times[0],
        peak_memory()
    );
}

fn large_file(services: usize, backends: usize) -> String {
    let mut text = String::from("version = 1\n");
    for service in 0..services {
        let (high, low) = (service / 250, service % 250);
        let _ = write!(
            text,
            "\n[[services]]\nname = \"service-{service}\"\nvips = [\"192.{high}.{low}.10\"]\n\
             ports = [{{ protocol = \"tcp\", port = 80, backend_port = 8080 }}]\nbackends = [\n"
        );
        for backend in 0..backends {
            let (upper, lower) = (backend / 250, backend % 250 + 1);
            let _ = writeln!(
                text,
                "  {{ address = \"10.{}.{low}.{lower}\", port = {}, weight = 100 }},",
                high % 200,
                8000 + upper
            );
        }
        text.push_str("]\n");
    }
    text
}

fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")).map(str::trim).unwrap_or("unknown").to_owned()
}
