//! Computes the constants of Blowfish: the first 33,344 bits of pi's fraction (Schneier, 1994).

use std::{env, fs, io, path::Path};

/// The P-array and four S-boxes.
const WORDS: usize = 18 + 4 * 256;

/// A spigot (Rabinowitz and Wagon, 1995) that pours 32 bits at a time. It keeps pi as
/// 2 + 1/3 (2 + 2/5 (2 + 3/7 (2 + ...))), and the 2s are its first digits in that mixed base.
/// Multiplied by 2^32 and carried from the right, they yield the next word and the rest of pi.
fn fraction_of_pi() -> Vec<u32> {
    // Each term adds a bit. A word too many is poured for the sake of what it carries.
    let terms = 32 * (WORDS as u64 + 2);
    let mut digits = vec![2; terms as usize];
    let pour = |word| {
        let mut carry = 0;
        for i in (1..terms - 32 * word).rev() {
            let value = (digits[i as usize] << 32) + carry;
            digits[i as usize] = value % (2 * i + 1);
            carry = value / (2 * i + 1) * i;
        }
        carry
    };
    let mut words: Vec<u64> = (0..=WORDS as u64).map(pour).collect();
    // The rest may be above 1, so a word may have 33 bits.
    for i in (1..=WORDS).rev() {
        words[i - 1] += words[i] >> 32;
    }
    words[..WORDS].iter().map(|&word| word as u32).collect()
}

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let pi = fraction_of_pi();
    let (p, s) = pi.split_at(18);
    let lane = format!("Lane {{ p: {p:?}, s: {:?} }}", s.chunks(256).collect::<Vec<_>>());
    let folder = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    fs::write(Path::new(&folder).join("pi.rs"), lane)
}
