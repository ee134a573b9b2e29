//! What the load saw: counts, time, and the spread of latencies.

use std::io;
use std::time::Duration;

/// A latency is kept in tenths of a microsecond: exact enough, and 4 bytes a request.
const TENTHS_PER_MICROSECOND: f64 = 10.0;

#[derive(Default)]
pub struct Report {
    latencies_tenths: Vec<u32>,
    errors: usize,
    first_error: Option<String>,
    elapsed: Duration,
}

impl Report {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn requests(&self) -> usize {
        self.latencies_tenths.len()
    }

    pub fn add(&mut self, latency: Duration) {
        let tenths = u32::try_from(latency.as_nanos() / 100).unwrap_or(u32::MAX);
        self.latencies_tenths.push(tenths);
    }

    pub fn add_error(&mut self, error: &io::Error) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_string());
    }

    /// Counts requests that were never answered as errors.
    pub fn add_unanswered(&mut self, count: usize) {
        if count > 0 {
            self.errors += count - 1;
            self.add_error(&io::Error::new(io::ErrorKind::TimedOut, "no reply"));
        }
    }

    pub fn finish(&mut self, elapsed: Duration) {
        self.elapsed = elapsed;
    }

    pub fn into_json(mut self) -> String {
        self.latencies_tenths.sort_unstable();
        let error = match &self.first_error {
            Some(text) => format!(", \"first_error\": \"{}\"", text.replace(['"', '\\'], "'")),
            None => String::new(),
        };
        format!(
            "{{\"requests\": {}, \"seconds\": {:.6}, \"p50_us\": {:.1}, \"p99_us\": {:.1}, \
             \"errors\": {}{error}}}",
            self.requests(),
            self.elapsed.as_secs_f64(),
            self.microseconds_at(0.50),
            self.microseconds_at(0.99),
            self.errors,
        )
    }

    /// The latency that this share of the requests did not exceed; 0 where there was none.
    fn microseconds_at(&self, share: f64) -> f64 {
        let Some(last) = self.latencies_tenths.len().checked_sub(1) else {
            return 0.0;
        };
        let rank = (share * last as f64).round() as usize;
        f64::from(self.latencies_tenths[rank]) / TENTHS_PER_MICROSECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_latencies() {
        let mut report = Report::new();
        for microseconds in (1..=101).rev() {
            report.add(Duration::from_micros(microseconds));
        }
        report.add_error(&io::ErrorKind::UnexpectedEof.into());
        report.finish(Duration::from_secs(2));
        assert_eq!(
            report.into_json(),
            "{\"requests\": 101, \"seconds\": 2.000000, \"p50_us\": 51.0, \"p99_us\": 100.0, \
             \"errors\": 1, \"first_error\": \"unexpected end of file\"}"
        );
    }

    #[test]
    fn an_empty_report_is_all_zero() {
        assert_eq!(
            Report::new().into_json(),
            "{\"requests\": 0, \"seconds\": 0.000000, \"p50_us\": 0.0, \"p99_us\": 0.0, \
             \"errors\": 0}"
        );
    }
}
