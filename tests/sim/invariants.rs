//! What must hold, one property per file. Each judges what was found after a restart against what had
//! been promised before; none knows how it came about.

#[cfg(not(feature = "sim"))]
pub mod acknowledged_entries_stay;
#[cfg(feature = "sim")]
pub mod acknowledged_records_stay;
#[cfg(feature = "sim")]
pub mod acknowledged_writes_stay;
#[cfg(feature = "sim")]
pub mod ephemeral_goes_with_its_session;
#[cfg(feature = "sim")]
pub mod high_watermark_never_falls;
#[cfg(feature = "sim")]
pub mod in_sync_is_assigned;
#[cfg(not(feature = "sim"))]
pub mod offsets_dense;
#[cfg(feature = "sim")]
pub mod one_controller_per_epoch;
#[cfg(feature = "sim")]
pub mod one_leader_per_epoch;
#[cfg(feature = "sim")]
pub mod one_leader_per_term;
#[cfg(not(feature = "sim"))]
pub mod one_offset_one_value;
#[cfg(feature = "sim")]
pub mod one_state_per_zxid;
#[cfg(not(feature = "sim"))]
pub mod recovery_idempotent;
#[cfg(feature = "sim")]
pub mod session_never_goes_back;
#[cfg(not(feature = "sim"))]
pub mod synced_records_stay;
#[cfg(not(feature = "sim"))]
pub mod vote_never_goes_back;
#[cfg(feature = "sim")]
pub mod zxid_is_the_order;

/// What a partition's log holds after it was opened.
#[cfg(not(feature = "sim"))]
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
