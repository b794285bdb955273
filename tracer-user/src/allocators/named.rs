//! Functions that the user names: `--allocator malloc=my_alloc,free=my_free`.

use tracer_common::function::Shape;

use crate::allocators::families::C;

/// A function of the program that works like one of the C library's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFunction {
    /// Its symbol.
    pub name: String,
    /// What it does.
    pub shape: Shape,
}

impl NamedFunction {
    /// Parses `malloc=my_alloc,free=my_free`; the error says what is wrong with it.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        text.split(',').map(Self::parse).collect()
    }

    fn parse(part: &str) -> Result<Self, String> {
        let (like, name) =
            part.split_once('=').ok_or_else(|| format!("`{part}` is not like malloc=my_alloc"))?;
        let known = C.iter().find(|known| known.name == like.trim());
        let known = known.ok_or_else(|| {
            let names: Vec<&str> = C.iter().map(|known| known.name).collect();
            format!("`{like}` is none of {}", names.join(", "))
        })?;
        let name = name.trim();
        if name.is_empty() {
            return Err(format!("`{part}` names no function"));
        }
        Ok(Self { name: name.to_owned(), shape: known.shape })
    }
}

/// The names most like a wanted one, the nearest first.
pub fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    /// Names less alike than this would only confuse.
    const LEAST_ALIKE: f64 = 0.75;
    const MOST: usize = 3;
    let mut alike: Vec<(f64, &str)> = names
        .map(|name| (strsim::jaro_winkler(wanted, name), name))
        .filter(|(likeness, _)| *likeness >= LEAST_ALIKE)
        .collect();
    alike.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    alike.dedup();
    alike.into_iter().take(MOST).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_functions_is_parsed_and_what_is_wrong_is_said() {
        let parsed = NamedFunction::parse_all("malloc=pool_get,free=pool_put").expect("parsed");
        assert_eq!(parsed[0], NamedFunction { name: "pool_get".into(), shape: Shape::Size });
        assert_eq!(parsed[1].shape, Shape::Release);
        for wrong in ["", "malloc", "malloc=", "alloc=x", "malloc=x,"] {
            assert!(NamedFunction::parse_all(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_nearest_names_come_first() {
        let names = ["pool_get", "pool_gets", "main", "pool_put"];
        assert_eq!(nearest("pool_gett", names.into_iter())[0], "pool_get");
        assert!(nearest("zzz", names.into_iter()).is_empty());
    }
}
