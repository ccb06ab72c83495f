//! When each step of an enrollment is due.
use crate::clock::Timestamp;
use crate::journey::sequence::Sequence;
pub fn plan(_s: &Sequence, at: Timestamp, _z: &jiff::tz::TimeZone, _seed: u64) -> Vec<Timestamp> {
    vec![at]
}
pub fn quiet_until(_s: &Sequence, _z: &jiff::tz::TimeZone, _at: Timestamp) -> Option<Timestamp> {
    None
}
