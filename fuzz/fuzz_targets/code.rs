#![no_main]
outlive_fuzz::parser!(code);
