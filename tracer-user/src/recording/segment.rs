//! A segment: a snapshot that stands by itself, and after it differences, each to the one before.
//!
//! In: the rows of a snapshot's sites. Out: bytes; and the rows again, from the bytes of a segment in their order.
//!
//! The bytes of a snapshot: the number of sites that are new in the segment, and their ids, each as the difference to the one before; then,
//! column by column, the difference of each site's number to the last one, sites in the order in which they came into the segment. A column
//! in which nothing changes, or all sites change by the same, packs to next to nothing.

use std::collections::HashMap;

use super::RecordingError;
use super::codec::{pack, put, put_signed, take, take_signed, unpack};
use super::columns::{COLUMNS, LEAST_COLUMNS, LIVE_BYTES, PRESENT, Row};

/// No segment has more sites: more than any program has call sites, and few enough for memory.
const MAX_SITES: usize = 4 << 20;

/// Sites of a segment so far, with their numbers in its last snapshot.
#[derive(Clone, Debug, Default)]
pub(super) struct Segment {
    sites: Vec<i64>,
    rows: Vec<Row>,
    places: HashMap<i64, usize>,
    /// Snapshots in it.
    pub(super) snapshots: usize,
}

impl Segment {
    /// Adds a snapshot: its bytes. Sites that are not in it stay in the segment, as absent.
    pub(super) fn encode(&mut self, snapshot: &[(i64, Row)]) -> Result<Vec<u8>, RecordingError> {
        let mut rows = self.rows.clone();
        for row in &mut rows {
            row[PRESENT] = 0;
        }
        let mut added = Vec::new();
        for (site, row) in snapshot {
            if let Some(place) = self.places.get(site) {
                rows[*place] = *row;
            } else {
                added.push((*site, *row));
            }
        }
        let mut bytes = Vec::new();
        put(&mut bytes, added.len() as u64);
        let mut before = 0;
        for (site, row) in added {
            put_signed(&mut bytes, site.wrapping_sub(before));
            before = site;
            self.add(site);
            rows.push(row);
        }
        for column in 0..COLUMNS {
            for (row, last) in rows.iter().zip(&self.rows) {
                put_signed(&mut bytes, row[column].wrapping_sub(last[column]));
            }
        }
        self.rows = rows;
        self.snapshots += 1;
        pack(&bytes)
    }

    fn add(&mut self, site: i64) {
        self.places.insert(site, self.sites.len());
        self.sites.push(site);
        self.rows.push([0; COLUMNS]);
    }

    /// Reads the next snapshot of the segment.
    pub(super) fn decode(&mut self, packed: &[u8]) -> Result<(), RecordingError> {
        let bytes = unpack(packed)?;
        let mut rest = &bytes[..];
        let added = take(&mut rest)?;
        // Each takes a byte at least.
        if added > rest.len() as u64 || self.sites.len() as u64 + added > MAX_SITES as u64 {
            return Err(RecordingError::Damaged("a snapshot has more sites than bytes"));
        }
        let mut before = 0_i64;
        for _ in 0..added {
            before = before.wrapping_add(take_signed(&mut rest)?);
            self.add(before);
        }
        for column in 0..COLUMNS {
            if column >= LEAST_COLUMNS && rest.is_empty() {
                break;
            }
            for row in &mut self.rows {
                row[column] = row[column].wrapping_add(take_signed(&mut rest)?);
            }
        }
        if !rest.is_empty() {
            return Err(RecordingError::Damaged("a snapshot has more numbers than sites"));
        }
        self.snapshots += 1;
        Ok(())
    }

    /// What a site holds in the last snapshot: nothing when it is not in it.
    pub(super) fn live_bytes(&self, site: i64) -> u64 {
        let row = self.places.get(&site).map(|place| &self.rows[*place]);
        row.filter(|row| row[PRESENT] == 1).map_or(0, |row| row[LIVE_BYTES] as u64)
    }

    /// The sites of the last snapshot and their rows.
    pub(super) fn present(&self) -> impl Iterator<Item = (i64, &Row)> {
        let all = self.sites.iter().copied().zip(&self.rows);
        all.filter(|(_, row)| row[PRESENT] == 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(snapshot: &[(u8, i64)]) -> Vec<(i64, Row)> {
        let mut rows: Vec<(i64, Row)> = snapshot
            .iter()
            .map(|(site, value)| {
                let mut row = [*value; COLUMNS];
                row[PRESENT] = 1;
                (i64::from(*site), row)
            })
            .collect();
        rows.sort_by_key(|(site, _)| *site);
        rows.dedup_by_key(|(site, _)| *site);
        rows
    }

    #[test]
    fn a_recording_from_before_the_last_column_is_read() {
        let mut bytes = Vec::new();
        put(&mut bytes, 1);
        put_signed(&mut bytes, 7);
        (0..LEAST_COLUMNS).for_each(|_| put_signed(&mut bytes, 1));
        let mut segment = Segment::default();
        segment.decode(&pack(&bytes).expect("packed")).expect("unpacked");
        let mut row = [1; COLUMNS];
        row[LEAST_COLUMNS..].fill(0);
        assert_eq!(segment.present().collect::<Vec<_>>(), [(7, &row)]);
    }

    proptest! {
        #[test]
        fn every_snapshot_comes_back(
            snapshots in prop::collection::vec(prop::collection::vec((any::<u8>(), any::<i64>()), 0..20), 1..8)
        ) {
            let (mut writer, mut reader) = (Segment::default(), Segment::default());
            for snapshot in &snapshots {
                let rows = rows(snapshot);
                reader.decode(&writer.encode(&rows).expect("packed")).expect("unpacked");
                let mut read: Vec<(i64, Row)> =
                    reader.present().map(|(site, row)| (site, *row)).collect();
                read.sort_by_key(|(site, _)| *site);
                prop_assert_eq!(read, rows);
            }
            prop_assert_eq!(reader.snapshots, snapshots.len());
        }

        #[test]
        fn damage_is_refused_and_nothing_worse(bytes: Vec<u8>) {
            let packed = pack(&bytes).expect("packed");
            let mut segment = Segment::default();
            // Whether it makes sense by chance is not the point.
            let _any = segment.decode(&packed).is_ok() && segment.decode(&bytes).is_ok();
        }
    }
}
