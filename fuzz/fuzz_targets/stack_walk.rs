#![no_main]
outlive_fuzz::parser!(stack_walk);
