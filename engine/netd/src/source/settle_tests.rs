//! Tests of `settle`.
