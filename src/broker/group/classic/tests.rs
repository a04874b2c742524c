//! Every transition of a classic group, as tables.
