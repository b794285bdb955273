#![no_main]
outlive_fuzz::parser!(elf);
