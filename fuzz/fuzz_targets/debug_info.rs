#![no_main]
outlive_fuzz::parser!(debug_info);
