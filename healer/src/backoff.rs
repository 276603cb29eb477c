//! How long to wait after a failed attempt.

use jiff::SignedDuration;

use crate::policy::Healing;

/// Delay after the `failed`th failed attempt (from 1): base·2ⁿ⁻¹, at most the cap, with equal jitter: half of it fixed,
/// so that there is a floor, half of it random, so that services that failed together do not return together.
/// `random` is in 0.0..=1.0 and comes from outside, so that this stays a function.
pub fn delay(healing: &Healing, failed: u32, random: f64) -> SignedDuration {
    let full = undisturbed(healing, failed);
    let half = full / 2;
    half + half.mul_f64(random.clamp(0.0, 1.0))
}

/// The same without jitter: what is told to people, and what shadow mode reckons with.
pub fn undisturbed(healing: &Healing, failed: u32) -> SignedDuration {
    let doublings = failed.saturating_sub(1).min(30);
    healing.base_delay.checked_mul(1 << doublings).unwrap_or(healing.max_delay).min(healing.max_delay)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_cap() {
        let healing = Healing::default();
        let seconds: Vec<i64> = (1..=9).map(|failed| delay(&healing, failed, 1.0).as_secs()).collect();
        assert_eq!(seconds, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
        assert_eq!(delay(&healing, u32::MAX, 1.0).as_secs(), 600);
    }

    #[test]
    fn jitter_keeps_half_as_the_floor() {
        let healing = Healing::default();
        assert_eq!(delay(&healing, 3, 0.0).as_secs(), 20);
        assert_eq!(delay(&healing, 3, 0.5).as_secs(), 30);
        assert_eq!(delay(&healing, 3, 7.0).as_secs(), 40);
    }
}
