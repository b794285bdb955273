//! Each parser with well-formed input, and with the same cut short and changed: it comes back, in bounded time.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use super::{PARSERS, Parser, seeds};

/// How many ways of being cut, and of being changed, are tried of each input.
const TRIES: u32 = 200;
/// What is absurd: far longer than any input here can take.
const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn every_parser_survives_every_seed_cut_and_changed() {
    for (name, parser) in PARSERS {
        let seeds = seeds(name, &[]);
        assert!(!seeds.is_empty(), "there is no seed for {name}");
        for seed in seeds {
            let begun = Instant::now();
            parser(&seed);
            cut(parser, &seed);
            change(parser, &seed);
            assert!(begun.elapsed() < PATIENCE, "{name} works without bound");
        }
    }
}

fn cut(parser: Parser, seed: &[u8]) {
    for number in 0..TRIES as usize {
        parser(&seed[..seed.len() * number / TRIES as usize]);
    }
}

/// Some bytes become others, and with them lengths, offsets and addresses.
fn change(parser: Parser, seed: &[u8]) {
    let value = prop_oneof![Just(0), Just(0x7f), Just(0x80), Just(0xff), any::<u8>()];
    let changes = proptest::collection::vec((any::<Index>(), value), 1..6);
    let config = Config { cases: TRIES, failure_persistence: None, ..Config::default() };
    let survived = TestRunner::new(config).run(&changes, |changes| {
        let mut input = seed.to_vec();
        for (at, value) in changes {
            input[at.index(seed.len())] = value;
        }
        parser(&input);
        Ok(())
    });
    assert!(survived.is_ok(), "{survived:?}");
}
