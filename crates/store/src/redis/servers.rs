//! The servers of a store: which of them has which bucket, and calls to many buckets at once.
//!
//! Follows a cluster as it changes: what a server says has moved is asked where it has moved to. A call is made anew only
//! when it is certain that it was not run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Cmd, Connection, ConnectionAddr, ConnectionInfo, ServerErrorKind, Value, cmd};

use crate::redis::failure::Failure;
use crate::redis::keys::{Keys, Place};
use crate::redis::location::Location;
use crate::redis::node::{Node, answers};
use crate::redis::script::Script;

/// Enough for a slot that moves on while it is looked for, and for a failover to be heard of.
const ROUNDS_MAX: usize = 8;
const PAUSE: Duration = Duration::from_millis(50);

/// How long replicas are waited for.
const WAIT_MS: u32 = 1_000;

/// One thing to ask of the server that has a place.
#[derive(Debug)]
pub(super) struct Call {
    pub place: Place,
    what: What,
}

#[derive(Debug)]
enum What {
    Command(Cmd),
    Script { script: &'static Script, keys: Vec<String>, identity: String, packed: Vec<u8> },
}

impl Call {
    pub fn command(place: Place, command: Cmd) -> Self {
        Self { place, what: What::Command(command) }
    }

    /// `keys` are the buckets' own, all of them with the server that has `place`.
    pub fn script(
        place: Place,
        script: &'static Script,
        keys: Vec<String>,
        identity: &str,
        packed: Vec<u8>,
    ) -> Self {
        Self { place, what: What::Script { script, keys, identity: identity.to_owned(), packed } }
    }

    fn pack(&self, with_source: bool, into: &mut Vec<u8>) {
        match &self.what {
            What::Command(command) => into.extend(command.get_packed_command()),
            What::Script { script, keys, identity, packed } => {
                let mut call = match with_source {
                    true => cmd("EVAL"),
                    false => cmd("EVALSHA"),
                };
                call.arg(if with_source { &script.source } else { &script.hash });
                call.arg(keys.len()).arg(keys).arg(identity).arg(packed);
                into.extend(call.get_packed_command());
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Servers {
    seeds: Vec<ConnectionInfo>,
    pub is_cluster: bool,
    keys: Keys,
    connections: usize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    nodes: HashMap<String, Arc<Node>>,
    /// Which node has which place; empty until the cluster was asked.
    owners: HashMap<Place, String>,
}

/// A call that has no answer yet, by its place among all, and whether the server has to be told what the script is.
type Open = (usize, bool);

type Answer = Result<Value, Failure>;

/// What one server is asked in a round.
struct Group {
    node: Arc<Node>,
    calls: Vec<Open>,
}

/// What of a round has to be asked again, and where.
#[derive(Default)]
struct Again {
    calls: Vec<Open>,
    is_map_old: bool,
    /// Calls of slots that are on the move.
    asking: Vec<(usize, String)>,
}

impl Servers {
    pub fn new(location: &Location) -> Self {
        Self {
            seeds: location.servers.clone(),
            is_cluster: location.is_cluster,
            keys: location.keys.clone(),
            connections: location.connections,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks all, at the same time where they are for different servers, and gives the answers in their order.
    pub fn ask(&self, calls: &[Call]) -> Vec<Answer> {
        self.ask_and_wait(calls, 0)
    }

    /// As `ask`; what was written is acknowledged when `replicas` of each server have it.
    pub fn ask_and_wait(&self, calls: &[Call], replicas: u32) -> Vec<Answer> {
        let mut answers: Vec<Option<Answer>> = vec![None; calls.len()];
        let mut open: Vec<Open> = (0..calls.len()).map(|index| (index, false)).collect();
        for round in 0..ROUNDS_MAX {
            if open.is_empty() {
                break;
            }
            if round > 1 {
                std::thread::sleep(PAUSE * round as u32);
            }
            let again = self.round(calls, &open, replicas, &mut answers);
            for (index, address) in again.asking {
                answers[index] = Some(self.ask_at(&address, &calls[index]));
            }
            if again.is_map_old {
                self.known().owners.clear();
            }
            open = again.calls;
        }
        let give_up = || Err(Failure::NotRun("no server has what is asked for".to_owned()));
        answers.into_iter().map(|answer| answer.unwrap_or_else(give_up)).collect()
    }

    fn round(&self, calls: &[Call], open: &[Open], replicas: u32, answers: &mut [Option<Answer>]) -> Again {
        let mut again = Again::default();
        let mut groups: Vec<Group> = Vec::new();
        for (index, with_source) in open {
            match self.owner(calls[*index].place) {
                Ok(node) => match groups.iter_mut().find(|group| group.node.address == node.address) {
                    Some(group) => group.calls.push((*index, *with_source)),
                    None => groups.push(Group { node, calls: vec![(*index, *with_source)] }),
                },
                Err(failure) => self.try_again((*index, *with_source), failure, &mut again, answers),
            }
        }
        // First all are sent, then all are waited for.
        let mut sent: Vec<(Group, Connection)> = Vec::new();
        for group in groups {
            let mut connection = match group.node.take() {
                Ok(connection) => connection,
                Err(failure) => {
                    for call in group.calls {
                        self.try_again(call, failure.clone(), &mut again, answers);
                    }
                    continue;
                }
            };
            let mut packed = Vec::new();
            for (index, with_source) in &group.calls {
                calls[*index].pack(*with_source, &mut packed);
            }
            if replicas > 0 {
                packed.extend(cmd("WAIT").arg(replicas).arg(WAIT_MS).get_packed_command());
            }
            match connection.send_packed_command(&packed) {
                Ok(()) => sent.push((group, connection)),
                Err(error) => {
                    group.node.broke();
                    for (index, _) in group.calls {
                        answers[index] = Some(Err(Failure::at_call(&group.node.address, &error)));
                    }
                }
            }
        }
        for (group, connection) in sent {
            receive(&group.node, &group.calls, connection, replicas, answers, &mut again);
        }
        again
    }

    /// Of a call that was not sent: in a cluster, somebody else may have the place by now.
    fn try_again(
        &self,
        (index, with_source): Open,
        failure: Failure,
        again: &mut Again,
        answers: &mut [Option<Answer>],
    ) {
        answers[index] = Some(Err(failure));
        if self.is_cluster {
            again.is_map_old = true;
            again.calls.push((index, with_source));
        }
    }

    /// Of a slot that is just being moved.
    fn ask_at(&self, address: &str, call: &Call) -> Result<Value, Failure> {
        let node = self.node(address)?;
        let mut connection = node.take()?;
        let mut packed = cmd("ASKING").get_packed_command();
        call.pack(true, &mut packed);
        let answered = connection.send_packed_command(&packed).and_then(|()| answers(&mut connection, 2));
        let mut answered = answered.map_err(|error| Failure::at_call(&node.address, &error))?;
        node.give_back(connection);
        match answered.pop() {
            Some(Value::ServerError(error)) => Err(Failure::answered(&error)),
            Some(value) => Ok(value),
            None => Err(Failure::strange("nothing")),
        }
    }

    fn node(&self, address: &str) -> Result<Arc<Node>, Failure> {
        let mut known = self.known();
        if let Some(node) = known.nodes.get(address) {
            return Ok(Arc::clone(node));
        }
        let unusable = || Failure::NotRun(format!("the cluster names the server `{address}`"));
        let (host, port) = address.rsplit_once(':').ok_or_else(unusable)?;
        let port = port.parse().map_err(|_| unusable())?;
        let seed = self.seeds.first().ok_or_else(unusable)?;
        let mut to = seed.addr().clone();
        match &mut to {
            ConnectionAddr::Tcp(h, p) | ConnectionAddr::TcpTls { host: h, port: p, .. } => {
                (*h, *p) = (host.to_owned(), port);
            }
            _ => return Err(unusable()),
        }
        let node = Arc::new(Node::new(seed.clone().set_addr(to), self.connections));
        known.nodes.insert(address.to_owned(), Arc::clone(&node));
        Ok(node)
    }

    fn seed(&self, info: &ConnectionInfo) -> Arc<Node> {
        let address = info.addr().to_string();
        let mut known = self.known();
        let node = known.nodes.entry(address);
        Arc::clone(node.or_insert_with(|| Arc::new(Node::new(info.clone(), self.connections))))
    }

    fn owner(&self, place: Place) -> Result<Arc<Node>, Failure> {
        if !self.is_cluster {
            return self
                .seeds
                .first()
                .map(|info| self.seed(info))
                .ok_or_else(|| Failure::strange("no server"));
        }
        let known = self.known().owners.get(&place).cloned();
        let address = match known {
            Some(address) => address,
            None => {
                self.look_around()?;
                let gap = || Failure::NotRun("no server of the cluster has the slot".to_owned());
                self.known().owners.get(&place).cloned().ok_or_else(gap)?
            }
        };
        self.node(&address)
    }

    /// Asks whoever answers which server has which slots.
    fn look_around(&self) -> Result<(), Failure> {
        let mut candidates: Vec<Arc<Node>> = self.known().nodes.values().cloned().collect();
        candidates.extend(self.seeds.iter().map(|info| self.seed(info)));
        let mut last = Failure::NotRun("no server of the cluster answers".to_owned());
        for node in candidates {
            match slots(&node) {
                Ok(ranges) => {
                    let places = self.keys.all_buckets().chain([Place::Meta]);
                    let owner = |slot: u16| {
                        let range = ranges.iter().find(|(from, to, _)| (*from..=*to).contains(&slot));
                        range.map(|(_, _, address)| address.clone())
                    };
                    let owners = places.filter_map(|place| Some((place, owner(self.keys.slot(place))?)));
                    self.known().owners = owners.collect();
                    return Ok(());
                }
                Err(failure) => last = failure,
            }
        }
        Err(Failure::NotRun(last.detail().to_owned()))
    }

    /// Every server that has a part of the store.
    pub fn all(&self) -> Result<Vec<Arc<Node>>, Failure> {
        let mut all: Vec<Arc<Node>> = Vec::new();
        for place in self.keys.all_buckets().chain([Place::Meta]) {
            let node = self.owner(place)?;
            if !all.iter().any(|known| known.address == node.address) {
                all.push(node);
            }
        }
        Ok(all)
    }
}

/// Waits for the answers of one server.
fn receive(
    node: &Node,
    group: &[Open],
    mut connection: Connection,
    replicas: u32,
    all: &mut [Option<Answer>],
    again: &mut Again,
) {
    let count = group.len() + usize::from(replicas > 0);
    let mut received = match answers(&mut connection, count) {
        Ok(received) => received,
        Err(error) => {
            node.broke();
            for (index, _) in group {
                all[*index] = Some(Err(Failure::at_call(&node.address, &error)));
            }
            return;
        }
    };
    node.give_back(connection);
    let waited = if replicas > 0 { received.pop() } else { None };
    let is_replicated = waited.is_none_or(|count| matches!(count, Value::Int(n) if n >= i64::from(replicas)));
    for ((index, with_source), value) in group.iter().zip(received) {
        let answer = match value {
            Value::ServerError(error) => {
                match (error.kind(), error.details()) {
                    (Some(ServerErrorKind::NoScript), _) => again.calls.push((*index, true)),
                    (Some(ServerErrorKind::Moved), _) => {
                        again.is_map_old = true;
                        again.calls.push((*index, *with_source));
                    }
                    (Some(ServerErrorKind::Ask), Some(detail)) => {
                        let address = detail.rsplit(' ').next().unwrap_or_default().to_owned();
                        again.asking.push((*index, address));
                    }
                    _ => {}
                }
                Err(Failure::answered(&error))
            }
            _ if !is_replicated => {
                let detail = format!("{}: not {replicas} replicas have it yet", node.address);
                Err(Failure::Unknown(detail))
            }
            value => Ok(value),
        };
        all[*index] = Some(answer);
    }
}

/// From, to and master of each range of slots.
fn slots(node: &Node) -> Result<Vec<(u16, u16, String)>, Failure> {
    let mut connection = node.take()?;
    let asked = cmd("CLUSTER").arg("SLOTS").query::<Vec<Vec<Value>>>(&mut connection);
    let ranges = asked.map_err(|error| Failure::NotRun(format!("{}: {error}", node.address)))?;
    node.give_back(connection);
    let own_host = node.address.rsplit_once(':').map_or("", |(host, _)| host);
    let range = |parts: &Vec<Value>| match &parts[..] {
        [Value::Int(from), Value::Int(to), Value::Array(master), ..] => {
            let host = match master.first()? {
                Value::BulkString(host) if !host.is_empty() => String::from_utf8(host.clone()).ok()?,
                _ => own_host.to_owned(),
            };
            let Some(Value::Int(port)) = master.get(1) else { return None };
            Some((u16::try_from(*from).ok()?, u16::try_from(*to).ok()?, format!("{host}:{port}")))
        }
        _ => None,
    };
    Ok(ranges.iter().filter_map(range).collect())
}
