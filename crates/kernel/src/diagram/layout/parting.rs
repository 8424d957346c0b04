//! The lines that part the regions of a parallel state.

use crate::diagram::layout::{Point, Rect};

/// Lines between regions that stand beside one another, or below.
pub fn partings(places: &[Rect]) -> Vec<[Point; 2]> {
    let between = |pair: &[Rect]| {
        let (one, other) = (pair[0], pair[1]);
        if other.y >= one.bottom() {
            let y = one.bottom() + (other.y - one.bottom()) / 2;
            let (left, right) = (one.x.min(other.x), one.right().max(other.right()));
            return [Point { x: left, y }, Point { x: right, y }];
        }
        let x = one.right() + (other.x - one.right()) / 2;
        let (top, bottom) = (one.y.min(other.y), one.bottom().max(other.bottom()));
        [Point { x, y: top }, Point { x, y: bottom }]
    };
    places.windows(2).map(between).collect()
}
