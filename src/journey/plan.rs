//! When each step of an enrollment is due.
