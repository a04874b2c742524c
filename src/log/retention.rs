//! Which segments go: pure. Kafka's `deleteOldSegments`.

use crate::common::ids::Offset;

/// One segment, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFacts {
    /// The offset behind its last record: the next segment's base, or the log's end.
    pub end_offset: Offset,
    /// Its size.
    pub size_bytes: u64,
    /// Its largest timestamp.
    pub largest_timestamp: i64,
}

/// What decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionLimits {
    /// Wall clock.
    pub now_ms: i64,
    /// `retention.ms`; negative is for ever.
    pub retention_ms: i64,
    /// `retention.bytes`; negative is without limit.
    pub retention_bytes: i64,
    /// `cleanup.policy` contains `delete`: without, only the log start offset lets segments go.
    pub delete: bool,
    /// Nothing at or above it goes.
    pub high_watermark: Offset,
    /// Segments wholly below it go.
    pub log_start_offset: Offset,
}

/// How many of the oldest segments go. All of them may: then the caller rolls first.
pub fn expired(segments: &[SegmentFacts], limits: &RetentionLimits) -> usize {
    let allowed = segments
        .iter()
        .take_while(|segment| limits.high_watermark >= segment.end_offset)
        .count();
    // An empty active segment stays whatever its age.
    let allowed = match segments.last() {
        Some(last) if last.size_bytes == 0 => allowed.min(segments.len() - 1),
        _ => allowed,
    };
    let candidates = &segments[..allowed];
    let mut count = 0;
    if limits.delete {
        if limits.retention_ms >= 0 {
            count = candidates
                .iter()
                .take_while(|segment| {
                    limits.now_ms.saturating_sub(segment.largest_timestamp) > limits.retention_ms
                })
                .count();
        }
        if let Ok(keep) = u64::try_from(limits.retention_bytes) {
            let left: u64 = segments[count..]
                .iter()
                .map(|segment| segment.size_bytes)
                .sum();
            let mut excess = left.saturating_sub(keep);
            for segment in &candidates[count..] {
                if segment.size_bytes > excess || excess == 0 {
                    break;
                }
                excess -= segment.size_bytes;
                count += 1;
            }
        }
    }
    let below = candidates
        .iter()
        .take(segments.len().saturating_sub(1))
        .take_while(|segment| segment.end_offset <= limits.log_start_offset)
        .count();
    count.max(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(rows: &[(i64, u64, i64)]) -> Vec<SegmentFacts> {
        rows.iter()
            .map(|&(end, size_bytes, largest_timestamp)| SegmentFacts {
                end_offset: Offset(end),
                size_bytes,
                largest_timestamp,
            })
            .collect()
    }

    #[test]
    fn time_size_and_start_offset_decide_below_the_high_watermark() {
        let all = facts(&[(10, 100, 1_000), (20, 100, 2_000), (30, 100, 3_000)]);
        let limits = RetentionLimits {
            now_ms: 10_000,
            retention_ms: -1,
            retention_bytes: -1,
            delete: true,
            high_watermark: Offset(30),
            log_start_offset: Offset(0),
        };
        type Change = fn(&mut RetentionLimits);
        let table: &[(&str, Change, usize)] = &[
            ("no limit", |_| (), 0),
            ("too old", |l| l.retention_ms = 7_999, 2),
            ("exactly old enough stays", |l| l.retention_ms = 9_000, 0),
            ("all are old", |l| l.retention_ms = 0, 3),
            (
                "high watermark",
                |l| {
                    l.retention_ms = 0;
                    l.high_watermark = Offset(19)
                },
                1,
            ),
            ("size", |l| l.retention_bytes = 200, 1),
            (
                "size keeps what would undercut it",
                |l| l.retention_bytes = 201,
                0,
            ),
            ("size zero", |l| l.retention_bytes = 0, 3),
            ("start offset", |l| l.log_start_offset = Offset(20), 2),
            (
                "start offset inside",
                |l| l.log_start_offset = Offset(19),
                1,
            ),
            (
                "start offset at the end keeps the active one",
                |l| l.log_start_offset = Offset(30),
                2,
            ),
            (
                "compacted only",
                |l| {
                    l.retention_ms = 0;
                    l.retention_bytes = 0;
                    l.delete = false
                },
                0,
            ),
        ];
        for (name, change, want) in table {
            let mut limits = limits;
            change(&mut limits);
            assert_eq!(expired(&all, &limits), *want, "{name}");
        }
        let empty = facts(&[(10, 100, 0), (10, 0, 0)]);
        let old = RetentionLimits {
            retention_ms: 0,
            high_watermark: Offset(10),
            ..limits
        };
        assert_eq!(expired(&empty, &old), 1, "an empty active segment stays");
        assert_eq!(expired(&[], &old), 0);
    }
}
