//! One row per setting.

/// Everything that was configured, resolved.
#[derive(Debug, Default)]
pub struct Config {}
