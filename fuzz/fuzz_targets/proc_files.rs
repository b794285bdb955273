#![no_main]
outlive_fuzz::parser!(proc_files);
