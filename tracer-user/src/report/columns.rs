//! How many columns of a terminal text takes, and text made to fit in them.
//!
//! In: text without what controls a terminal, and a number of columns. Out: rows whose columns stand below each other; text cut where it
//! says least. Characters of East Asian scripts and pictures take two columns, marks that combine none.

use unicode_width::UnicodeWidthChar as _;

/// Columns that a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(width_of).sum()
}

fn width_of(character: char) -> usize {
    character.width().unwrap_or(0)
}

/// The last so many columns.
pub(crate) fn shorten_start(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut kept: Vec<char> = fitting(text.chars().rev(), columns).collect();
    kept.push('…');
    kept.into_iter().rev().collect()
}

/// The first so many columns.
pub(crate) fn shorten_end(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    fitting(text.chars(), columns).chain(std::iter::once('…')).collect()
}

/// Characters that leave a column of so many.
fn fitting(characters: impl Iterator<Item = char>, columns: usize) -> impl Iterator<Item = char> {
    let mut left = columns.saturating_sub(1);
    characters.map_while(move |character| {
        left = left.checked_sub(width_of(character))?;
        Some(character)
    })
}

/// The width of each column of a table.
pub(super) fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let mut widths = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (column, cell) in widths.iter_mut().zip(row) {
            *column = width(cell).max(*column);
        }
    }
    widths
}

/// Cells to the right of their columns, two blanks after each.
pub(super) fn aligned(row: &[String], widths: &[usize]) -> String {
    let cells = row.iter().zip(widths);
    cells.fold(String::new(), |line, (cell, width)| line + &format!("{cell:>width$}  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut_where_it_says_least() {
        assert_eq!(shorten_start("abcdef", 4), "…def");
        assert_eq!(shorten_end("abcdef", 4), "abc…");
        assert_eq!(shorten_start("äöü", 3), "äöü");
        assert_eq!(shorten_start("abc", 0), "…");
    }

    #[test]
    fn wide_characters_take_two_columns_and_marks_none() {
        assert_eq!(width("a漢字🦀e\u{301}"), 1 + 2 + 2 + 2 + 1);
        assert_eq!(shorten_end("漢字漢字", 6), "漢字…");
        assert_eq!(shorten_start("漢字漢字", 6), "…漢字");
        assert_eq!(shorten_end("漢字", 4), "漢字");
        for columns in 1..20 {
            assert!(width(&shorten_end("a漢字🦀e\u{301}bcdefghijkl", columns)) <= columns);
            assert!(width(&shorten_start("a漢字🦀e\u{301}bcdefghijkl", columns)) <= columns);
        }
    }
}
