//! How evenly sessions lie over many databases: a simulation of three ways of placing them.
//!
//! Tenants are of sizes as they usually are: the second half as large as the first, the third a third (Zipf's law). What
//! matters is the fullest database beside the mean, since all of them are bought as large as that one has to be.

/// Tenants of a service that has as many customers.
const TENANTS: u64 = 10_000;
const DATABASES: [usize; 4] = [8, 16, 64, 256];
/// A tenant that would be more than this part of a database's mean is spread over all of them.
const PART_MAX: f64 = 0.05;

/// Sessions on the fullest database beside the mean, for each way of placing them.
#[derive(Debug, PartialEq)]
struct Fullest {
    /// Each tenant is in one place.
    by_tenant: f64,
    /// Each subject of each tenant is in a place of its own.
    by_subject: f64,
    /// Large tenants by subject, the others whole.
    mixed: f64,
    /// How many tenants are spread then.
    spread: usize,
}

pub fn run(sessions: u64) -> bool {
    println!("{sessions} sessions of {TENANTS} tenants: the fullest database beside the mean\n");
    println!("databases  by tenant  by subject  large tenants by subject");
    for databases in DATABASES {
        let Fullest { by_tenant, by_subject, mixed, spread } = place(sessions, databases);
        println!("{databases:>9}  {by_tenant:>9.3}  {by_subject:>10.4}  {mixed:>9.3} ({spread} tenants)");
    }
    true
}

fn place(sessions: u64, databases: usize) -> Fullest {
    let harmonic: f64 = (1..=TENANTS).map(|rank| 1.0 / rank as f64).sum();
    let mean = sessions as f64 / databases as f64;
    let (mut whole, mut single, mut mixed) = (vec![0; databases], vec![0; databases], vec![0; databases]);
    let mut spread = 0;
    for tenant in 1..=TENANTS {
        let size = (sessions as f64 / (tenant as f64 * harmonic)).round() as u64;
        let home = scattered(tenant) as usize % databases;
        whole[home] += size;
        let is_large = size as f64 > mean * PART_MAX;
        spread += usize::from(is_large);
        if !is_large {
            mixed[home] += size;
        }
        for subject in 0..size {
            let place = scattered(tenant << 40 | subject) as usize % databases;
            single[place] += 1;
            mixed[place] += u64::from(is_large);
        }
    }
    let fullest = |counts: &[u64]| counts.iter().max().map_or(0.0, |most| *most as f64 / mean);
    let (by_tenant, by_subject, mixed) = (fullest(&whole), fullest(&single), fullest(&mixed));
    Fullest { by_tenant, by_subject, mixed, spread }
}

/// The finalizer of splitmix64 (Steele, Lea and Flood, 2014): each bit of the number changes half of the bits.
fn scattered(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) >> 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_lie_evenly_and_whole_tenants_do_not() {
        let Fullest { by_tenant, by_subject, mixed, spread } = place(1_000_000, 16);
        assert!(by_subject < 1.02, "{by_subject}");
        assert!(by_tenant > 1.5, "the largest tenant alone is a tenth of all: {by_tenant}");
        assert!(mixed < 1.2 && (10..60).contains(&spread), "{mixed}, {spread}");
    }

    #[test]
    fn one_database_has_everything() {
        let Fullest { by_tenant, by_subject, mixed, .. } = place(1_000_000, 1);
        assert_eq!([by_tenant, by_subject], [by_subject, mixed]);
        assert!((by_tenant - 1.0).abs() < 0.01, "{by_tenant}");
    }
}
