//! pantry: allocations of Rust's standard library, kept for ever.

mod protocol;

mod shelf {
    #[expect(dead_code, reason = "only its size matters")]
    pub struct Jar([u64; 8]);

    #[inline(never)]
    pub fn stock(jars: usize) -> Vec<Jar> {
        Vec::with_capacity(jars) // SITE stock
    }

    impl Jar {
        #[inline(never)]
        pub fn boxed(filling: u64) -> Box<Self> {
            Box::new(Self([filling; 8])) // SITE boxed
        }
    }
}

fn main() {
    let talk = protocol::Conversation::begin();
    for _ in 0..10 {
        std::mem::forget(shelf::stock(100));
        Box::leak(shelf::Jar::boxed(7));
    }
    talk.end(20, 10 * (100 * 64 + 64));
}
