//! In which row each node of a level stands.

/// Which edges close a circle, met by a search that takes those of `early` first, then nodes without a predecessor, then
/// the others, each in their order.
pub fn backward(count: usize, early: &[usize], edges: &[(usize, usize)]) -> Vec<bool> {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        Not,
        Under,
        Done,
    }
    let mut backward = vec![false; edges.len()];
    let mut out: Vec<Vec<usize>> = vec![Vec::new(); count];
    let mut entered = vec![false; count];
    for (number, (from, to)) in edges.iter().enumerate() {
        out[*from].push(number);
        entered[*to] = true;
    }
    let mut seen = vec![Seen::Not; count];
    let first = (0..count).filter(|node| !entered[*node]);
    let then = (0..count).filter(|node| entered[*node]);
    for root in early.iter().copied().chain(first).chain(then) {
        if seen[root] != Seen::Not {
            continue;
        }
        seen[root] = Seen::Under;
        let mut path = vec![(root, 0)];
        while let Some((node, next)) = path.last_mut() {
            let Some(edge) = out[*node].get(*next) else {
                seen[*node] = Seen::Done;
                path.pop();
                continue;
            };
            *next += 1;
            let to = edges[*edge].1;
            match seen[to] {
                Seen::Under => backward[*edge] = true,
                Seen::Not => {
                    seen[to] = Seen::Under;
                    path.push((to, 0));
                }
                Seen::Done => {}
            }
        }
    }
    backward
}

/// The row of each node: each edge leads at least one row down, and nodes stand near those that they are tied to. The
/// edges lead in no circle.
pub fn ranks(count: usize, edges: &[(usize, usize)]) -> Vec<i32> {
    let mut ranks = vec![0; count];
    // As far up as can be: at most as many rounds as there are rows.
    for _ in 0..=count {
        let mut settled = true;
        for (from, to) in edges {
            if ranks[*to] <= ranks[*from] {
                ranks[*to] = ranks[*from] + 1;
                settled = false;
            }
        }
        if settled {
            break;
        }
    }
    // Then down, where that makes more arrows shorter than longer.
    for _ in 0..=count {
        let mut settled = true;
        for node in (0..count).rev() {
            let above = edges.iter().filter(|(_, to)| *to == node).count();
            let below = edges.iter().filter(|(from, _)| *from == node).map(|(_, to)| ranks[*to]);
            let (fan, nearest) = (below.clone().count(), below.min());
            if let Some(nearest) = nearest.filter(|_| fan > above)
                && nearest - 1 > ranks[node]
            {
                ranks[node] = nearest - 1;
                settled = false;
            }
        }
        if settled {
            break;
        }
    }
    let first = ranks.iter().copied().min().unwrap_or(0);
    ranks.iter().map(|rank| rank - first).collect()
}
