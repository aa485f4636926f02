//! What two rows are compared by: word hashes, min-hash bands, fingerprints.

use openledger_primitives::keccak256;

use crate::policy::Policy;

/// Words of a fingerprint.
pub(crate) const FINGERPRINT_WORDS: usize = 8;

/// Words, or characters of a short row, in a shingle.
const SHINGLE: usize = 5;

/// Everything that the duplicate index needs of one row.
#[derive(Clone, Debug)]
pub(crate) struct Features {
    /// First half of keccak256 of the folded text.
    pub(crate) exact: u128,
    /// Folded text of a short row: it is compared by characters.
    pub(crate) folded: Option<Box<str>>,
    /// Hash of each word.
    pub(crate) words: Box<[u32]>,
    /// Min-hash band keys: `[bands]`.
    pub(crate) bands: Vec<u64>,
    /// Sampled fingerprints with the word that they start at.
    pub(crate) fingerprints: Vec<(u64, u32)>,
}

impl Features {
    pub(crate) fn of(content: &str, policy: &Policy) -> Self {
        let folded = fold(content);
        let words = words(&folded, policy.seed);
        let digest = keccak256(folded.as_bytes());
        let exact = digest.0[..16]
            .iter()
            .fold(0u128, |value, &byte| value << 8 | u128::from(byte));
        let fingerprints = fingerprints(&words, policy);
        let folded = ((words.len() as u64) < policy.short_words).then(|| folded.into_boxed_str());
        let words = words.into_boxed_slice();
        let shingles = shingles(folded.as_deref(), &words);
        let bands = bands(&shingles, folded.is_some(), policy);
        Self {
            exact,
            folded,
            words,
            bands,
            fingerprints,
        }
    }
}

/// Lower case, every run of white space or unit separators one space.
fn fold(content: &str) -> String {
    let mut folded = String::with_capacity(content.len());
    for word in content.split(|c: char| c.is_whitespace() || c == crate::ingest::JOIN) {
        if word.is_empty() {
            continue;
        }
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.extend(word.chars().flat_map(char::to_lowercase));
    }
    folded
}

/// Hashes of the runs of letters and digits.
fn words(folded: &str, seed: u64) -> Vec<u32> {
    folded
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(|word| (hash_bytes(word.as_bytes(), seed) >> 32) as u32)
        .collect()
}

/// The set of shingles, sorted: character 5-grams of a short row, word 5-grams of a longer one.
pub(crate) fn shingles(folded: Option<&str>, words: &[u32]) -> Vec<u64> {
    let mut set: Vec<u64> = match folded {
        Some(text) => {
            let characters: Vec<u32> = text.chars().map(u32::from).collect();
            grams(&characters)
        }
        None => grams(words),
    };
    set.sort_unstable();
    set.dedup();
    set
}

fn grams(items: &[u32]) -> Vec<u64> {
    if items.len() < SHINGLE {
        return vec![combine(items)];
    }
    items.windows(SHINGLE).map(combine).collect()
}

fn combine(items: &[u32]) -> u64 {
    items.iter().fold(
        items.len() as u64,
        |hash, &item| mix(hash ^ u64::from(item)),
    )
}

/// Jaccard similarity of two sorted sets, basis points, rounded down.
pub(crate) fn jaccard_bps(a: &[u64], b: &[u64]) -> u64 {
    let (mut i, mut j, mut both) = (0, 0, 0u64);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        both += u64::from(x == y);
        i += usize::from(x <= y);
        j += usize::from(y <= x);
    }
    let union = (a.len() + b.len()) as u64 - both;
    both * 10_000 / union.max(1)
}

/// Band keys of the min-hash signature (Broder 1997; banding as in Leskovec et al., *Mining of
/// Massive Datasets*, 3.4). Two rows of similarity s share a band with probability
/// `1 - (1 - s^rows)^bands`: 14 x 8 gives 0.99 at 0.85 and 0.57 at 0.7.
fn bands(shingles: &[u64], short: bool, policy: &Policy) -> Vec<u64> {
    let rows = policy.band_rows.max(1) as usize;
    let count = policy.bands as usize * rows;
    // One cheap odd-multiplier hash for each row of each band, on 32 well-mixed bits.
    let salts: Vec<(u32, u32)> = (1..=count as u64)
        .map(|at| mix(policy.seed ^ mix(at)))
        .map(|salt| ((salt >> 32) as u32, salt as u32 | 1))
        .collect();
    let mut least = vec![u32::MAX; count];
    for &shingle in shingles {
        let hash = (mix(shingle) >> 32) as u32;
        for (least, &(xor, odd)) in least.iter_mut().zip(&salts) {
            let product = (hash ^ xor).wrapping_mul(odd);
            *least = (*least).min(product ^ (product >> 15));
        }
    }
    least
        .chunks(rows)
        .zip(0u64..)
        .map(|(band, at)| {
            // Short and long rows are never in one bucket: their shingles mean different things.
            let start = mix(policy.seed ^ mix(at << 1 | u64::from(short)));
            band.iter()
                .fold(start, |key, &least| mix(key ^ u64::from(least)))
        })
        .collect()
}

/// Hashes of 8-word windows, of which the hash itself picks one in `fingerprint_sample`: equal
/// text gives equal picks wherever it stands (Manber 1994; Schleimer et al. 2003).
fn fingerprints(words: &[u32], policy: &Policy) -> Vec<(u64, u32)> {
    words
        .windows(FINGERPRINT_WORDS)
        .zip(0u32..)
        .map(|(window, at)| (combine(window), at))
        .filter(|(hash, _)| hash.is_multiple_of(policy.fingerprint_sample.max(1)))
        .collect()
}

/// The finaliser of `SplitMix64` (Steele et al. 2014).
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn hash_bytes(bytes: &[u8], seed: u64) -> u64 {
    bytes
        .chunks(8)
        .fold(mix(seed ^ bytes.len() as u64), |hash, chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            mix(hash ^ u64::from_le_bytes(word))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn jaccard_is_that_of_the_sets(
            a in prop::collection::btree_set(0u64..40, 1..30),
            b in prop::collection::btree_set(0u64..40, 1..30),
        ) {
            let both = a.intersection(&b).count() as u64;
            let union = a.union(&b).count() as u64;
            let sorted = |set: &BTreeSet<u64>| set.iter().copied().collect::<Vec<_>>();
            prop_assert_eq!(jaccard_bps(&sorted(&a), &sorted(&b)), both * 10_000 / union);
        }

        #[test]
        fn case_and_white_space_do_not_matter(words in prop::collection::vec("[a-z]{1,9}", 1..90)) {
            let policy = Policy::default();
            let plain = Features::of(&words.join(" "), &policy);
            let other = Features::of(&words.join("\n\t ").to_uppercase(), &policy);
            prop_assert_eq!(plain.exact, other.exact);
            prop_assert_eq!(plain.bands, other.bands);
            prop_assert_eq!(plain.fingerprints, other.fingerprints);
        }
    }

    /// The estimate behind the index: similar rows share a band about as often as theory says.
    #[test]
    fn bands_follow_the_similarity() {
        let policy = Policy::default();
        let shared = |kept: u64| {
            let trials = 200u64;
            (0..trials)
                .filter(|trial| {
                    let base = trial * 1_000;
                    let a: Vec<u64> = (0..100).map(|i| mix(base + i)).collect();
                    let b: Vec<u64> = (100 - kept..200 - kept).map(|i| mix(base + i)).collect();
                    let (a, b) = (bands(&a, false, &policy), bands(&b, false, &policy));
                    a.iter().zip(&b).any(|(x, y)| x == y)
                })
                .count() as u64
                * 100
                / trials
        };
        // 95 of 100 kept is a similarity of 0.90, 70 of 0.54, 40 of 0.25.
        assert!(shared(95) >= 98);
        assert!((5..=35).contains(&shared(70)));
        assert!(shared(40) <= 2);
    }
}
