//! cellar: an allocation in generic code that is inlined twice, kept for ever.

mod protocol;

mod rack {
    pub struct Rack<T> {
        rows: Vec<Vec<T>>,
    }

    impl<T> Rack<T> {
        pub fn with_room(rows: usize) -> Self {
            Self { rows: Vec::with_capacity(rows) }
        }

        #[inline(always)]
        fn row(&mut self, bottles: usize) -> Vec<T> {
            Vec::with_capacity(bottles) // SITE row
        }

        #[inline(always)]
        pub fn lay(&mut self, bottles: usize) {
            let row = self.row(bottles); // SITE lay
            self.rows.push(row);
        }
    }
}

#[inline(never)]
fn stack_bottles(rack: &mut rack::Rack<u64>) {
    rack.lay(100); // SITE stack_bottles
}

fn main() {
    let mut rack = rack::Rack::with_room(10);
    let talk = protocol::Conversation::begin();
    for _ in 0..10 {
        stack_bottles(&mut rack);
    }
    std::mem::forget(rack);
    talk.end(10, 10 * 800);
}
