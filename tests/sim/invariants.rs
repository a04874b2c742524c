//! What must hold, one property per file. Each judges what was found after a restart against what had
//! been promised before; none knows how it came about.

pub mod acknowledged_entries_stay;
pub mod offsets_dense;
pub mod one_offset_one_value;
pub mod recovery_idempotent;
pub mod synced_records_stay;
pub mod vote_never_goes_back;

/// What a partition's log holds after it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its first offset.
    pub log_start_offset: i64,
    /// The offset of the next record.
    pub log_end_offset: i64,
    /// Offsets and values, as a consumer reads them.
    pub records: Vec<(i64, String)>,
    /// Idempotent producers and their last offsets.
    pub producers: Vec<(i64, i64)>,
}
