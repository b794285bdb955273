#![no_main]
outlive_fuzz::parser!(go_program);
