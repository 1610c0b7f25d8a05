//! Which node of a cluster keeps which slot, put together from what several nodes say.

use std::collections::HashMap;

use redis::Value;

use super::{address::Endpoint, keys::SLOTS, reply};

/// Which node keeps each slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SlotMap {
    nodes: Vec<Endpoint>,
    /// Of each slot its node's index.
    owners: Vec<Option<u16>>,
}

/// What one node says of the cluster: slots, from the first to the last one, who keeps them, and in which epoch it
/// came to do so.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct View(Vec<Share>);

#[derive(Clone, PartialEq, Eq, Debug)]
struct Share {
    first: u16,
    last: u16,
    owner: Endpoint,
    epoch: u64,
}

impl View {
    /// Reads the answers to `CLUSTER SLOTS` and `CLUSTER NODES` of the node at `asked`. Source:
    /// <https://redis.io/docs/latest/commands/cluster-slots/>.
    pub(super) fn read(slots: &Value, nodes: &str, asked: &Endpoint) -> Option<Self> {
        let epochs = epochs(nodes);
        let Value::Array(shares) = slots else { return None };
        shares
            .iter()
            .map(|share| read_share(share, &epochs, asked))
            .collect::<Option<_>>()
            .map(Self)
    }
}

/// The epoch of each node, by its id: `<id> <addresses> <flags> <master> <ping> <pong> <epoch> …`.
fn epochs(nodes: &str) -> HashMap<&str, u64> {
    let line = |line: &'_ str| -> Option<(usize, u64)> {
        let epoch = line.split(' ').nth(6)?.parse().ok()?;
        Some((line.find(' ')?, epoch))
    };
    nodes.lines().filter_map(|it| line(it).map(|(id, epoch)| (&it[..id], epoch))).collect()
}

fn read_share(share: &Value, epochs: &HashMap<&str, u64>, asked: &Endpoint) -> Option<Share> {
    let Value::Array(share) = share else { return None };
    let slot = |index: usize| {
        let slot = share.get(index).and_then(reply::as_int);
        slot.and_then(|slot| u16::try_from(slot).ok()).filter(|slot| usize::from(*slot) < SLOTS)
    };
    let Some(Value::Array(owner)) = share.get(2) else { return None };
    let text = |value: &Value| {
        let bytes = reply::as_bytes(value)?;
        std::str::from_utf8(bytes).ok().map(str::to_owned)
    };
    let port = owner.get(1).and_then(reply::as_int).and_then(|port| u16::try_from(port).ok())?;
    let id = owner.get(2).and_then(text);
    // One that does not know its own name, or does not tell it, is where it was asked; one that is to have a name
    // and has none yet may have an address.
    let host = match owner.first().and_then(text).as_deref() {
        None | Some("") => asked.host.clone(),
        Some("?") => owner.get(3).and_then(address).unwrap_or_else(|| asked.host.clone()),
        Some(host) => host.to_owned(),
    };
    let epoch = id.and_then(|id| epochs.get(id.as_str()).copied()).unwrap_or(0);
    Some(Share { first: slot(0)?, last: slot(1)?, owner: Endpoint { host, port }, epoch })
}

/// The address among what else is told of a node: names and values in turns, or by name.
fn address(more: &Value) -> Option<String> {
    let pairs: Vec<(&Value, &Value)> = match more {
        Value::Array(more) => more.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect(),
        Value::Map(more) => more.iter().map(|(name, value)| (name, value)).collect(),
        _ => return None,
    };
    let text = |value| reply::as_bytes(value).and_then(|bytes| std::str::from_utf8(bytes).ok());
    let (_, ip) = pairs.into_iter().find(|(name, _)| text(name) == Some("ip"))?;
    text(ip).filter(|ip| !ip.is_empty()).map(str::to_owned)
}

impl SlotMap {
    /// Of each slot, the claim of the latest epoch counts: a master that was replaced while it was cut off still
    /// claims what it had.
    pub(super) fn of(views: &[View]) -> Self {
        let mut latest: Vec<Option<(u64, u16)>> = vec![None; SLOTS];
        let mut nodes: Vec<Endpoint> = Vec::new();
        for Share { first, last, owner, epoch } in views.iter().flat_map(|View(shares)| shares) {
            let known = nodes.iter().position(|node| node == owner);
            let index = known.unwrap_or_else(|| {
                nodes.push(owner.clone());
                nodes.len() - 1
            });
            let Ok(index) = u16::try_from(index) else { continue };
            for slot in *first..=*last {
                let known = &mut latest[usize::from(slot)];
                if known.is_none_or(|(known, _)| known < *epoch) {
                    *known = Some((*epoch, index));
                }
            }
        }
        let owners = latest.into_iter().map(|it| it.map(|(_, index)| index)).collect();
        Self { nodes, owners }.tidied()
    }

    /// Which node keeps a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&Endpoint> {
        let index = (*self.owners.get(usize::from(slot))?)?;
        self.nodes.get(usize::from(index))
    }

    /// The nodes that keep any slots.
    pub(super) fn nodes(&self) -> &[Endpoint] {
        &self.nodes
    }

    /// The nodes that keep any slots, and how many each.
    pub(super) fn counts(&self) -> Vec<(Endpoint, usize)> {
        let mut counts = vec![0; self.nodes.len()];
        for owner in self.owners.iter().flatten() {
            counts[usize::from(*owner)] += 1;
        }
        self.nodes.iter().cloned().zip(counts).collect()
    }

    /// How many slots nobody keeps, and the first of them.
    pub(super) fn missing(&self) -> Option<(usize, usize)> {
        let first = self.owners.iter().position(Option::is_none)?;
        Some((self.owners.iter().filter(|it| it.is_none()).count(), first))
    }

    /// The same, with a slot somewhere else.
    pub(super) fn with(&self, slot: u16, owner: &Endpoint) -> Self {
        let mut map = self.clone();
        let known = map.nodes.iter().position(|node| node == owner);
        let index = known.unwrap_or_else(|| {
            map.nodes.push(owner.clone());
            map.nodes.len() - 1
        });
        if let (Some(place), Ok(index)) = (map.owners.get_mut(usize::from(slot)), index.try_into())
        {
            *place = Some(index);
        }
        map.tidied()
    }

    /// With no other nodes than those that keep slots, in the order of their names.
    fn tidied(self) -> Self {
        let mut used = vec![false; self.nodes.len()];
        for owner in self.owners.iter().flatten() {
            used[usize::from(*owner)] = true;
        }
        let mut nodes: Vec<Endpoint> =
            self.nodes.iter().zip(used).filter(|(_, used)| *used).map(|it| it.0.clone()).collect();
        nodes.sort();
        let moved = |index: u16| {
            let node = self.nodes.get(usize::from(index))?;
            nodes.binary_search(node).ok().and_then(|index| u16::try_from(index).ok())
        };
        let owners = self.owners.iter().map(|owner| owner.and_then(moved)).collect();
        Self { nodes, owners }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(port: u16) -> Endpoint {
        Endpoint { host: "10.0.0.1".to_owned(), port }
    }

    fn share(first: u16, last: u16, port: u16, epoch: u64) -> Share {
        Share { first, last, owner: node(port), epoch }
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    /// An answer to `CLUSTER SLOTS` with one share.
    fn answer(host: Value, more: Vec<Value>) -> Value {
        let owner = vec![host, Value::Int(7000), bulk("id-a"), Value::Array(more)];
        let share = vec![Value::Int(0), Value::Int(16_383), Value::Array(owner)];
        Value::Array(vec![Value::Array(share)])
    }

    #[test]
    fn a_node_without_a_name_is_where_it_was_asked() {
        let nodes = "id-b 10.0.0.2:7001@17001 master - 0 0 9 connected\n\
                     id-a 10.0.0.1:7000@17000,a.example myself,master - 0 0 4 connected 0-16383\n";
        let asked = Endpoint { host: "redis.example".to_owned(), port: 6379 };
        let ip = || vec![bulk("ip"), bulk("10.0.0.9")];
        for (host, more, expected) in [
            (bulk("a.example"), ip(), "a.example"),
            (Value::Nil, Vec::new(), "redis.example"),
            (Value::Nil, ip(), "redis.example"),
            (bulk(""), Vec::new(), "redis.example"),
            (bulk("?"), ip(), "10.0.0.9"),
            (bulk("?"), Vec::new(), "redis.example"),
        ] {
            let view = View::read(&answer(host, more), nodes, &asked).expect("it can be read");
            let owner = Endpoint { host: expected.to_owned(), port: 7000 };
            assert_eq!(view, View(vec![Share { first: 0, last: 16_383, owner, epoch: 4 }]));
        }
        assert_eq!(View::read(&Value::Nil, nodes, &asked), None);
    }

    #[test]
    fn the_claim_of_the_latest_epoch_counts() {
        let stale = View(vec![share(0, 99, 1, 1), share(100, 16_383, 2, 2)]);
        let fresh = View(vec![share(0, 99, 3, 7), share(100, 16_383, 2, 2)]);
        for views in [[stale.clone(), fresh.clone()], [fresh, stale]] {
            let map = SlotMap::of(&views);
            assert_eq!((map.owner(0), map.owner(100)), (Some(&node(3)), Some(&node(2))));
            assert_eq!(map.nodes(), [node(2), node(3)]);
            assert_eq!(map.missing(), None);
        }
    }

    #[test]
    fn slots_that_nobody_keeps_are_missing() {
        let map = SlotMap::of(&[View(vec![share(0, 9, 1, 1), share(20, 16_383, 2, 1)])]);
        assert_eq!((map.owner(10), map.missing()), (None, Some((10, 10))));
        let whole = (10..20).fold(map, |map, slot| map.with(slot, &node(3)));
        assert_eq!((whole.missing(), whole.nodes().len()), (None, 3));
        let back = (10..20).fold(whole, |map, slot| map.with(slot, &node(2)));
        assert_eq!(back.nodes(), [node(1), node(2)]);
    }
}
