//! Between two rows: on which track each arrow that changes sides runs across.
//!
//! Tracks are chosen so that arrows cross one another as rarely as their ends allow, and two never run on the same
//! line.

/// An arrow on its way down, from `above` to `below`.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub above: i32,
    pub below: i32,
}

impl Run {
    fn is_straight(self) -> bool {
        self.above == self.below
    }

    fn span(self) -> (i32, i32) {
        (self.above.min(self.below), self.above.max(self.below))
    }

    fn passes(self, x: i32) -> bool {
        let (left, right) = self.span();
        left < x && x < right
    }
}

/// Nearer than this, two lines look like one.
const APART: i32 = 8;
/// What it costs to run along another line; a crossing costs 1.
const ALONG: i32 = 50;

/// The track of each run, from 0 at the top, and how many tracks there are. Straight ones have none.
pub fn tracks(runs: &[Run]) -> (Vec<Option<usize>>, usize) {
    let mut remaining: Vec<usize> = (0..runs.len()).filter(|at| !runs[*at].is_straight()).collect();
    // By where they begin, so that what costs the same comes out the same way.
    remaining.sort_by_key(|at| (runs[*at].span(), *at));
    let mut tracks: Vec<Option<usize>> = vec![None; runs.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut count = 0;
    while !remaining.is_empty() {
        // The one that is best above all the others.
        let cost = |at: usize| -> i32 {
            let others = remaining.iter().filter(|other| **other != at);
            others.map(|other| above(runs[at], runs[*other]) - above(runs[*other], runs[at])).sum()
        };
        let best = (0..remaining.len()).min_by_key(|place| cost(remaining[*place])).unwrap_or(0);
        let at = remaining.remove(best);
        let under = placed.iter().filter(|other| touches(runs[**other], runs[at]));
        let track = under.filter_map(|other| tracks[*other]).max().map_or(0, |track| track + 1);
        count = count.max(track + 1);
        tracks[at] = Some(track);
        placed.push(at);
    }
    (tracks, count)
}

/// What it costs to have `upper` on a track above `lower`'s.
fn above(upper: Run, lower: Run) -> i32 {
    let crossings = i32::from(lower.passes(upper.below)) + i32::from(upper.passes(lower.above));
    let along =
        (upper.below - lower.above).abs() < APART && upper.above != lower.above && upper.below != lower.below;
    crossings + if along { ALONG } else { 0 }
}

/// Whether two cannot share a track.
fn touches(one: Run, other: Run) -> bool {
    let ((left, right), (other_left, other_right)) = (one.span(), other.span());
    left < other_right + APART && other_left < right + APART
}
