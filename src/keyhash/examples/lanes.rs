//! How many bcrypt hashes a second each number of lanes makes, against the crate `bcrypt`.
//! `cargo run --release -p keyhash --example lanes [COST [ROUNDS]]`

use std::hint::black_box;
use std::time::Instant;

use keyhash::bcrypt::{Cost, LANES, digest_lanes};
use keyhash::{Key, Policy};

const KEY: &[u8] = b"ak_0123456789abcdefghijABCDEFGHIJ012345";

/// Each way hashes some keys and returns their number.
type Way = fn(Cost) -> usize;

fn single(cost: Cost) -> usize {
    black_box(bcrypt::bcrypt(cost.get().into(), [7; 16], black_box(KEY)));
    1
}

fn lanes<const N: usize>(cost: Cost) -> usize {
    black_box(digest_lanes([black_box(KEY); N], [[7; 16]; N], cost, &mut || true));
    N
}

fn many<const THREADS: usize>(cost: Cost) -> usize {
    let keys = vec![Key::new(KEY).expect("a key"); 4 * LANES * THREADS];
    let hashes = Policy::Bcrypt(cost).hash_many(&keys, THREADS, &mut || true);
    hashes.expect("hashes").len()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default| arguments.next().map_or(Ok(default), |text| text.parse());
    let cost = Cost::new(number(5)?, Cost::DEFAULT_MAX)?;
    let rounds = number(101)?;
    let ways: [(&str, Way); 11] = [
        ("crate", single),
        ("1 lane", lanes::<1>),
        ("2 lanes", lanes::<2>),
        ("3 lanes", lanes::<3>),
        ("4 lanes", lanes::<4>),
        ("5 lanes", lanes::<5>),
        ("6 lanes", lanes::<6>),
        ("7 lanes", lanes::<7>),
        ("8 lanes", lanes::<8>),
        ("1 thread", many::<1>),
        ("2 threads", many::<2>),
    ];
    // The rounds are interleaved, so that a busy neighbour disturbs all alike.
    let mut rates = ways.map(|_| Vec::new());
    for _ in 0..rounds {
        for ((_, way), rates) in ways.iter().zip(&mut rates) {
            let start = Instant::now();
            let hashes = way(cost);
            rates.push(hashes as f64 / start.elapsed().as_secs_f64());
        }
    }
    // On a busy machine the best says more than the median: a neighbour takes most from those
    // who leave least idle.
    rates.iter_mut().for_each(|rates| rates.sort_by(f64::total_cmp));
    let of = |way: usize, share: usize| rates[way][(rates[way].len() - 1) * share / 2];
    println!("{:10}{:>10}{:>8}{:>12}{:>8}", "", "median/s", "ratio", "best/s", "ratio");
    for (way, (name, _)) in ways.iter().enumerate() {
        print!("{name:10}");
        print!("{:10.1}{:8.2}", of(way, 1), of(way, 1) / of(0, 1));
        println!("{:12.1}{:8.2}", of(way, 2), of(way, 2) / of(0, 2));
    }
    Ok(())
}
