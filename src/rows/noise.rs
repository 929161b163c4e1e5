//! Numbers that no coder makes smaller: evenly spread over their range, in no order.
//!
//! To find that out pco sorts all of them into bins, and then has each looked up in a table, for nothing. A sample tells
//! it as well.

use super::numbers::Wire;

/// Neighbouring numbers looked at ...
const RUN: usize = 32;
/// ... at so many places.
const RUNS: usize = 16;
/// Bins that the sample is sorted into, with the same count in each.
const BINS: usize = 16;
/// Bits of a range below which the numbers are cheap anyway.
const FEW_BITS: f64 = 16.0;
/// One number in so many may occur twice.
const REPEATED: usize = 20;
/// What bins must save of the bits for the work to be worth it.
const WORTH: f64 = 0.01;

/// Whether the numbers take as many bits in one bin as in many, and their differences no fewer.
pub(super) fn is_noise<T: Wire>(numbers: &[T]) -> bool {
    if numbers.len() < 4 * RUN * RUNS {
        return false;
    }
    let (mut least, mut most) = (u64::MAX, 0);
    for number in numbers {
        let place = number.place();
        least = least.min(place);
        most = most.max(place);
    }
    let in_one = bits(most - least);
    if in_one < FEW_BITS {
        return false;
    }
    let starts = (0..RUNS).map(|n| n * (numbers.len() - RUN) / (RUNS - 1));
    let runs = starts.map(|start| &numbers[start..start + RUN]);
    let mut values = Vec::with_capacity(RUN * RUNS);
    let mut differences = Vec::with_capacity(RUN * RUNS);
    for run in runs {
        values.extend(run.iter().map(|number| number.place()));
        differences.extend(run.windows(2).map(|pair| {
            // In the order of signed numbers.
            pair[1].place().wrapping_sub(pair[0].place()) ^ (1 << 63)
        }));
    }
    let worth = in_one * (1.0 - WORTH);
    values.sort_unstable();
    differences.sort_unstable();
    // A bin of one value costs no more than its place in the table.
    let repeated = values.windows(2).filter(|pair| pair[0] == pair[1]).count();
    repeated <= values.len() / REPEATED && in_bins(&values) > worth && in_bins(&differences) > worth
}

/// Bits of a number of such a range.
fn bits(range: u64) -> f64 {
    (range as f64 + 1.0).log2()
}

/// Bits of a number of a sample, which is sorted, where each bin has its own range, and its own place in a table.
fn in_bins(sample: &[u64]) -> f64 {
    let ranges = (0..BINS).map(|bin| {
        let edge = |bin: usize| sample[bin * (sample.len() - 1) / BINS];
        bits(edge(bin + 1) - edge(bin))
    });
    ranges.sum::<f64>() / BINS as f64 + (BINS as f64).log2()
}

#[cfg(test)]
mod tests {
    use super::super::numbers::compress_native;
    use super::*;
    use pco::ChunkConfig;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    fn random() -> StdRng {
        StdRng::seed_from_u64(7)
    }

    fn size<T: Wire>(numbers: &[T], level: usize) -> usize {
        let mut out = Vec::new();
        let config = ChunkConfig::default().with_compression_level(level);
        compress_native(numbers, &config, &mut out).unwrap();
        out.len()
    }

    #[test]
    fn what_no_bins_make_smaller_is_noise() {
        let mut dice = random();
        let floats: Vec<f64> = (0..25_000)
            .map(|_| 40.0 + 20.0 * dice.random::<f64>())
            .collect();
        assert!(is_noise(&floats));
        let narrow: Vec<f32> = (0..25_000)
            .map(|_| 3.3 + 0.2 * dice.random::<f32>())
            .collect();
        assert!(is_noise(&narrow));
        let integers: Vec<i64> = (0..25_000).map(|_| dice.random()).collect();
        assert!(is_noise(&integers));
        for size_of in [size(&floats, 5), size(&floats, 12)] {
            assert!(size(&floats, 0) as f64 <= size_of as f64 * 1.01);
        }
    }

    #[test]
    fn what_bins_or_differences_make_smaller_is_none() {
        let mut dice = random();
        let smooth: Vec<f64> = (0..25_000).map(|n| (f64::from(n) / 1000.0).sin()).collect();
        assert!(!is_noise(&smooth), "smooth");
        let wide: Vec<f64> = (0..25_000)
            .map(|_| (20.0 * dice.random::<f64>()).exp())
            .collect();
        assert!(size(&wide, 0) as f64 > 0.99 * size(&wide, 5) as f64 || !is_noise(&wide));
        let names: [i64; 50] = dice.random();
        let named: Vec<i64> = (0..25_000)
            .map(|_| names[dice.random_range(0..50)])
            .collect();
        assert!(!is_noise(&named), "few values of any size");
        let few: Vec<i64> = (0..25_000)
            .map(|_| dice.random_range(0..50) * 1_000_003)
            .collect();
        assert!(!is_noise(&few), "few values");
        let mut outlier: Vec<i64> = (0..25_000).map(|_| dice.random_range(0..1 << 40)).collect();
        assert!(is_noise(&outlier));
        outlier[77] = i64::MAX;
        assert!(!is_noise(&outlier), "one that is far away");
        let walk: Vec<i64> = (0..25_000)
            .scan(0i64, |at, _| {
                *at += dice.random_range(-1000..1000);
                Some(*at << 20)
            })
            .collect();
        assert!(!is_noise(&walk), "a walk");
        assert!(!is_noise(&[1.5f64; 10]) && !is_noise(&[1.5f64; 10_000]));
    }
}
