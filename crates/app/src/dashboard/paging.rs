//! Where somebody is in a list that is shown page by page, and the ways from there.
//!
//! The cursors of a store lead on and not back, so the address of a page remembers those that led to it.

use kernel::snapshot::Snapshot;

use crate::dashboard::words;

/// Pages that are remembered: addresses are not endless. Who has come further goes back to the newest.
const REMEMBERED_MAX: usize = 100;

/// Which page of a list is shown, as its address says.
#[derive(Debug, Default)]
pub struct Place {
    cursor: String,
    /// The cursors of pages before, the nearest last; that of the first page is not among them.
    trail: Vec<String>,
    number: usize,
}

/// What is said of a page, and where its links lead.
#[derive(Debug)]
pub struct Pages {
    pub number: usize,
    pub newest: Option<String>,
    pub newer: Option<String>,
    pub older: Option<String>,
}

impl Place {
    /// `number` and `trail` are what `address` has written; whatever else they are stands for the page alone.
    pub fn of(cursor: &str, number: &str, trail: &str) -> Self {
        let came = form_urlencoded::parse(trail.as_bytes()).map(|(_, cursor)| cursor.into_owned());
        let first = if cursor.is_empty() { 1 } else { 2 };
        Self {
            cursor: cursor.to_owned(),
            trail: came.collect(),
            number: number.parse().unwrap_or(first).max(first),
        }
    }

    pub fn cursor(&self) -> Option<String> {
        Some(self.cursor.clone()).filter(|cursor| !cursor.is_empty())
    }

    pub fn is_first(&self) -> bool {
        self.cursor.is_empty()
    }

    /// The links of the page, of a list at `path` with `filter` in its addresses; `next` leads to the page behind it.
    pub fn pages(&self, path: &str, filter: &[(&str, &str)], next: Option<&str>) -> Pages {
        let address = |cursor: &str, number: usize, trail: &[String]| {
            let trail: Vec<(&str, &str)> = trail.iter().map(|cursor| ("c", cursor.as_str())).collect();
            let (number, trail) = (number.to_string(), words::query(&trail));
            let place = [("cursor", cursor), ("page", number.as_str()), ("trail", trail.as_str())];
            let place = if cursor.is_empty() { &[][..] } else { &place[..] };
            let query = words::query(&[filter, place].concat());
            if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
        };
        let newest = (!self.is_first()).then(|| address("", 1, &[]));
        let newer = match self.trail.split_last() {
            Some((cursor, before)) => Some(address(cursor, self.number - 1, before)),
            None => newest.clone().filter(|_| self.number == 2),
        };
        let older = next.map(|next| {
            let mut trail = self.trail.clone();
            trail.extend(self.cursor());
            let forgotten = trail.len().saturating_sub(REMEMBERED_MAX);
            address(next, self.number + 1, &trail[forgotten..])
        });
        Pages { number: self.number, newest, newer, older }
    }
}

impl Pages {
    pub fn is_first(&self) -> bool {
        self.newest.is_none()
    }

    /// Whether there is any page but this.
    pub fn are_several(&self) -> bool {
        self.newest.is_some() || self.older.is_some()
    }

    /// Which part of a list of these instances the page is. Lists are in the order of ids, and those that are made here
    /// begin with the time.
    pub fn part(&self, what: &str, found: &[Snapshot]) -> String {
        let are_made_here = found.iter().all(|snapshot| snapshot.instance.is_derived());
        let order = if are_made_here { "the newest first" } else { "by id, the highest first" };
        let many = if found.len() == 1 { "" } else { "s" };
        format!("{}{} {what}{many}, {order}", self.said(), found.len())
    }

    /// `Page 2: `, where there are more than one.
    pub fn said(&self) -> String {
        if self.are_several() {
            format!("Page {}: ", words::thousands(self.number as u64))
        } else {
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The place that a link leads to.
    fn follow(link: Option<&String>) -> Place {
        let link = link.expect("there is such a link");
        let query = link.split_once('?').map_or("", |(_, query)| query);
        let of = |wanted: &str| {
            let mut fields = form_urlencoded::parse(query.as_bytes());
            fields.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned()).unwrap_or_default()
        };
        assert_eq!(of("machine"), "a b", "the filter is kept: {link}");
        Place::of(&of("cursor"), &of("page"), &of("trail"))
    }

    fn pages(place: &Place) -> Pages {
        let next = format!("{}&c=é /\u{1f}", place.number);
        place.pages("/list", &[("machine", "a b"), ("state", "")], Some(&next))
    }

    #[test]
    fn whoever_goes_on_comes_back_the_same_way() {
        let first = Place::of("", "", "");
        assert_eq!((pages(&first).newest, pages(&first).newer), (None, None));
        let mut place = first;
        let mut came = Vec::new();
        for _ in 0..5 {
            came.push((place.cursor.clone(), place.number));
            place = follow(pages(&place).older.as_ref());
        }
        while let Some(expected) = came.pop() {
            place = follow(pages(&place).newer.as_ref());
            assert_eq!((place.cursor.clone(), place.number), expected);
        }
    }

    #[test]
    fn an_address_does_not_grow_without_end() {
        let mut place = Place::of("", "", "");
        for _ in 0..300 {
            place = follow(pages(&place).older.as_ref());
        }
        assert_eq!((place.number, place.trail.len()), (301, REMEMBERED_MAX));
        for _ in 0..REMEMBERED_MAX {
            place = follow(pages(&place).newer.as_ref());
        }
        assert_eq!(pages(&place).newer, None, "what is forgotten is not guessed");
        assert!(follow(pages(&place).newest.as_ref()).is_first());
    }

    #[test]
    fn an_address_that_somebody_made_up_is_a_page_all_the_same() {
        let place = Place::of("x", "minus one", "%%%&&=");
        assert_eq!((place.number, place.cursor()), (2, Some("x".to_owned())));
        assert_eq!(Place::of("", "-7", "").number, 1);
    }
}
