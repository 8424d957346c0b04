//! The room that the labels of an arrow take, below one another.

use crate::diagram::Diagram;
use crate::diagram::layout::Rect;
use crate::diagram::text::{self, ARROW};

/// The labels of a piece or a loop.
#[derive(Clone, Debug, Default)]
pub struct Block {
    pub width: i32,
    heights: Vec<i32>,
}

impl Block {
    pub fn of(diagram: &Diagram, edge: usize) -> Self {
        let (width, heights) = text::block(&diagram.edges[edge].labels, ARROW);
        Self { width, heights }
    }

    pub fn height(&self) -> i32 {
        self.heights.iter().sum()
    }

    /// Where each label stands, from `x` on and around `middle`.
    pub fn rects(&self, x: i32, middle: i32) -> Vec<Rect> {
        let mut y = middle - self.height() / 2;
        let rect = |height: &i32| {
            let rect = Rect { x, y, width: self.width, height: *height };
            y += height;
            rect
        };
        self.heights.iter().map(rect).collect()
    }
}
