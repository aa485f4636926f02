//! Learning-rate schedules: linear warm-up, steps at the peak, then decay to a fraction of it (Hu et
//! al., "MiniCPM", 2024, section 4: warm-up, stable, decay).

use serde::{Deserialize, Serialize};

/// Shape of the decay after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// Half a cosine wave (Loshchilov & Hutter, "SGDR", 2017).
    #[default]
    Cosine,
    /// A straight line.
    Linear,
    /// No decay.
    Constant,
}

/// A schedule over a known number of steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Rate at the end of the warm-up.
    pub peak: f64,
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// Steps at the peak after the warm-up.
    pub hold: u64,
    /// Total steps, warm-up included.
    pub total: u64,
    /// Shape of the decay.
    pub decay: Decay,
    /// Rate at the last step as a fraction of the peak, in [0, 1].
    pub floor: f64,
}

impl Schedule {
    /// Learning rate of step `step`, counted from 1. Uses `libm`'s cosine, so that the rate has
    /// the same bits on every platform.
    pub fn rate(&self, step: u64) -> f64 {
        if step <= self.warmup {
            return self.peak * step as f64 / self.warmup.max(1) as f64;
        }
        let start = self.warmup + self.hold;
        let span = self.total.saturating_sub(start).max(1) as f64;
        let progress = (step.saturating_sub(start) as f64 / span).min(1.0);
        let shape = match self.decay {
            Decay::Cosine => 0.5 * (1.0 + libm::cos(std::f64::consts::PI * progress)),
            Decay::Linear => 1.0 - progress,
            Decay::Constant => 1.0,
        };
        self.peak * (self.floor + (1.0 - self.floor) * shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_to_the_peak_and_ends_at_the_floor() {
        for decay in [Decay::Cosine, Decay::Linear] {
            let schedule = Schedule {
                peak: 1e-2,
                warmup: 10,
                hold: 0,
                total: 110,
                decay,
                floor: 0.1,
            };
            assert!((schedule.rate(1) - 1e-3).abs() < 1e-12);
            assert!((schedule.rate(10) - 1e-2).abs() < 1e-12);
            assert!((schedule.rate(60) - 5.5e-3).abs() < 1e-9);
            assert!((schedule.rate(110) - 1e-3).abs() < 1e-12);
            for step in 10..110 {
                assert!(schedule.rate(step + 1) <= schedule.rate(step));
            }
            // Steps at the peak only push the decay back.
            let held = Schedule {
                hold: 50,
                total: 160,
                ..schedule
            };
            assert!((10..=60).all(|step| held.rate(step).to_bits() == schedule.rate(10).to_bits()));
            for step in 10..110 {
                assert_eq!(
                    held.rate(step + 50).to_bits(),
                    schedule.rate(step).to_bits()
                );
            }
        }
    }
}
