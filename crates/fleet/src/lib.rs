//! Doubts about several: real servers over one database, under load, while servers and databases die.
//!
//! Owns the campaign: what is started, who says what, what dies when, and what must hold afterwards. Everything is done
//! from outside, by HTTP and signals; it shares no code with the servers. Of a seed, what is said and what dies is the
//! same every time; when the one meets the other is not.

mod campaign;
mod check;
mod home;
mod http;
mod load;
mod random;
mod report;
mod server;
mod session;
mod sink;

pub use campaign::{Chaos, Plan, built_binary, run};
pub use home::StoreChoice;
pub use report::{Report, Violation};
