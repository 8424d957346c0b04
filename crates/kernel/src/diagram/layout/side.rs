//! Where along the side of a box its arrows begin and end.

/// Between two arrows on one side, where there is room.
pub const SPACING: i32 = 14;
/// Between an arrow and the end of a side.
pub const CORNER: i32 = 10;

/// An arrow that wants to be at `x`.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub x: i32,
    /// It can be nowhere else.
    pub fixed: bool,
}

/// Where each of the arrows meets a side from `left` to `right`, as near to where it wants to be as the others allow.
pub fn places(left: i32, right: i32, wishes: &[Wish]) -> Vec<i32> {
    let mut taken: Vec<i32> = wishes.iter().filter(|wish| wish.fixed).map(|wish| wish.x).collect();
    let (low, high) = (left + CORNER, right - CORNER);
    if !taken.is_empty() {
        return wishes
            .iter()
            .map(|wish| if wish.fixed { wish.x } else { beside(low, high, wish.x, &mut taken) })
            .collect();
    }
    let mut order: Vec<usize> = (0..wishes.len()).collect();
    order.sort_by_key(|at| (wishes[*at].x, *at));
    let gaps = i32::try_from(wishes.len()).unwrap_or(1) - 1;
    let spacing = if gaps > 0 { SPACING.min((high - low) / gaps) } else { SPACING };
    let mut places = vec![0; wishes.len()];
    let mut least = low;
    for at in &order {
        places[*at] = wishes[*at].x.clamp(low, high.max(low)).max(least);
        least = places[*at] + spacing;
    }
    let mut most = high.max(low);
    for at in order.iter().rev() {
        places[*at] = places[*at].min(most);
        most = places[*at] - spacing;
    }
    places
}

/// The free place nearest to `wish`, which is then taken.
fn beside(low: i32, high: i32, wish: i32, taken: &mut Vec<i32>) -> i32 {
    let free = |x: &i32| taken.iter().all(|other| (other - x).abs() >= SPACING - 6);
    let near = (low..=high).filter(free).min_by_key(|x| (x - wish).abs());
    let place = near.unwrap_or_else(|| wish.clamp(low, high.max(low)));
    taken.push(place);
    place
}
