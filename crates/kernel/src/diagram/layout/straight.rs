//! Straightens arrows: what stands in the rows is moved within the room that its neighbours leave, where that spares
//! bends or shortens the way across.

/// Something that stands in a row. Rows follow one another, and within each everything from left to right.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    pub row: usize,
    pub x: i32,
    /// What it takes beside `x`.
    pub left: i32,
    pub right: i32,
    /// Its half of what lies between it and its neighbour.
    pub gap: i32,
    pub is_box: bool,
}

/// An arrow from one body to the next.
#[derive(Clone, Copy, Debug)]
pub struct Tie {
    pub one: usize,
    pub other: usize,
    /// Where from the middle of `one` the arrow would best meet it.
    pub offset: i32,
    /// How far from there it still meets it straight.
    pub reach: i32,
}

/// What a bend is worth, in pixels of the way across.
const BEND: i32 = 24;
/// Each round may make room for the next; more of them hardly change anything.
const ROUNDS: usize = 6;

pub fn straighten(bodies: &mut [Body], ties: &[Tie]) {
    let mut ties_of = vec![Vec::new(); bodies.len()];
    for tie in ties {
        ties_of[tie.one].push(*tie);
        ties_of[tie.other].push(*tie);
    }
    let low = bodies.iter().map(|body| body.x - body.left).min().unwrap_or(0);
    let high = bodies.iter().map(|body| body.x + body.right).max().unwrap_or(0);
    for _ in 0..ROUNDS {
        let mut moved = false;
        for group in groups(bodies, ties) {
            let step = best_step(&group, bodies, &ties_of, (low, high));
            for member in &group {
                bodies[*member].x += step;
            }
            moved |= step != 0;
        }
        if !moved {
            break;
        }
    }
}

/// What is tried to be moved together: each by itself, arrows as far as they are straight, and all that is in line.
fn groups(bodies: &[Body], ties: &[Tie]) -> Vec<Vec<usize>> {
    let straight = |tie: &&Tie| distance(tie, bodies) == 0;
    let lines = |tie: &&Tie| !bodies[tie.one].is_box && !bodies[tie.other].is_box;
    let mut groups: Vec<Vec<usize>> = joined(bodies.len(), ties.iter().filter(straight));
    groups.extend(joined(bodies.len(), ties.iter().filter(straight).filter(lines)));
    groups.extend((0..bodies.len()).map(|body| vec![body]));
    groups.sort();
    groups.dedup();
    groups
}

/// The parts of the graph that the ties hold together.
fn joined<'t>(count: usize, ties: impl Iterator<Item = &'t Tie>) -> Vec<Vec<usize>> {
    let mut root: Vec<usize> = (0..count).collect();
    fn find(root: &mut [usize], mut body: usize) -> usize {
        while root[body] != body {
            root[body] = root[root[body]];
            body = root[body];
        }
        body
    }
    for tie in ties {
        let (one, other) = (find(&mut root, tie.one), find(&mut root, tie.other));
        root[one.max(other)] = one.min(other);
    }
    let mut parts = vec![Vec::new(); count];
    for body in 0..count {
        parts[find(&mut root, body)].push(body);
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// How far the arrow would run across.
fn distance(tie: &Tie, bodies: &[Body]) -> i32 {
    (bodies[tie.one].x + tie.offset - bodies[tie.other].x).abs()
}

fn cost(distance: i32, reach: i32) -> i32 {
    match distance - reach {
        // It is best in the middle, by a little.
        ..=0 => distance,
        across => reach + (across + BEND) * 8,
    }
}

/// How far a group is best moved; 0 if it stands well.
fn best_step(group: &[usize], bodies: &[Body], ties_of: &[Vec<Tie>], (low, high): (i32, i32)) -> i32 {
    let within = |body: usize| group.binary_search(&body).is_ok();
    let outward: Vec<&Tie> = group
        .iter()
        .flat_map(|member| &ties_of[*member])
        .filter(|tie| within(tie.one) != within(tie.other))
        .collect();
    if outward.is_empty() {
        return 0;
    }
    let (mut back, mut forth) = (i32::MIN, i32::MAX);
    for member in group {
        let body = &bodies[*member];
        let before = member.checked_sub(1).filter(|at| bodies[*at].row == body.row && !within(*at));
        let after =
            Some(member + 1).filter(|at| *at < bodies.len() && bodies[*at].row == body.row && !within(*at));
        let left = before.map_or(low, |at| bodies[at].x + bodies[at].right + bodies[at].gap + body.gap);
        let right = after.map_or(high, |at| bodies[at].x - bodies[at].left - bodies[at].gap - body.gap);
        back = back.max(left - (body.x - body.left));
        forth = forth.min(right - (body.x + body.right));
    }
    // Where things stand closer than they should, they stay.
    let (back, forth) = (back.min(0), forth.max(0));
    // By how much the arrow lies off, so that a step of as much the other way makes it straight.
    let off = |tie: &Tie| {
        let off = bodies[tie.one].x + tie.offset - bodies[tie.other].x;
        if within(tie.one) { off } else { -off }
    };
    let total = |step: i32| outward.iter().map(|tie| cost((off(tie) + step).abs(), tie.reach)).sum::<i32>();
    let steps = outward.iter().flat_map(|tie| {
        let off = off(tie);
        [-off, tie.reach - off, -tie.reach - off]
    });
    let steps = steps.map(|step| step.clamp(back, forth)).chain([0]);
    steps.min_by_key(|step| (total(*step), step.abs(), *step)).unwrap_or(0)
}
