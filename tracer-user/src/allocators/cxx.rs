//! C++ operator new and delete, in all forms of C++17.
//!
//! Those of libstdc++ and libc++ end in malloc and free. jemalloc, tcmalloc and mimalloc bring their own, which do their own
//! work; those that throw must not have their return trapped.

use tracer_common::function::Shape;

use super::{Known, forwarding, throwing};

/// By mangled names.
pub(super) const FUNCTIONS: [Known; 20] = [
    throwing("_Znwm", Shape::Size),
    throwing("_Znam", Shape::Size),
    throwing("_ZnwmSt11align_val_t", Shape::Size),
    throwing("_ZnamSt11align_val_t", Shape::Size),
    forwarding("_ZnwmRKSt9nothrow_t", Shape::Size),
    forwarding("_ZnamRKSt9nothrow_t", Shape::Size),
    forwarding("_ZnwmSt11align_val_tRKSt9nothrow_t", Shape::Size),
    forwarding("_ZnamSt11align_val_tRKSt9nothrow_t", Shape::Size),
    forwarding("_ZdlPv", Shape::Release),
    forwarding("_ZdaPv", Shape::Release),
    forwarding("_ZdlPvm", Shape::Release),
    forwarding("_ZdaPvm", Shape::Release),
    forwarding("_ZdlPvSt11align_val_t", Shape::Release),
    forwarding("_ZdaPvSt11align_val_t", Shape::Release),
    forwarding("_ZdlPvmSt11align_val_t", Shape::Release),
    forwarding("_ZdaPvmSt11align_val_t", Shape::Release),
    forwarding("_ZdlPvRKSt9nothrow_t", Shape::Release),
    forwarding("_ZdaPvRKSt9nothrow_t", Shape::Release),
    forwarding("_ZdlPvSt11align_val_tRKSt9nothrow_t", Shape::Release),
    forwarding("_ZdaPvSt11align_val_tRKSt9nothrow_t", Shape::Release),
];

/// The name that people know.
pub fn readable(name: &str) -> &str {
    let operators = [
        ("_Znw", "operator new"),
        ("_Zna", "operator new[]"),
        ("_Zdl", "operator delete"),
        ("_Zda", "operator delete[]"),
    ];
    let found = operators.iter().find(|(mangled, _)| name.starts_with(mangled));
    found.map_or(name, |(_, readable)| readable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator_has_a_readable_name() {
        assert!(FUNCTIONS.iter().all(|known| readable(known.name).starts_with("operator ")));
        assert_eq!(readable("_ZdaPvm"), "operator delete[]");
        assert_eq!(readable("malloc"), "malloc");
    }
}
