//! What limits replication: the settings that `kafka-reassign-partitions.sh --throttle` makes
//! (KIP-73), as replication is told of them.
//!
//! A follower's limit is kept by those who send to it. Each of them sees in the same image who else
//! sends throttled partitions to that follower, and takes its share of the limit.

use std::collections::{BTreeMap, BTreeSet};

use millrace_metadata::{Image, Partition, Resource, ResourceKind};
use millrace_model::{BrokerId, TopicId};
use millrace_replication::{Throttled, Throttles};

use crate::config::rate;

const LEADERS: &str = "leader.replication.throttled.replicas";
const FOLLOWERS: &str = "follower.replication.throttled.replicas";
const FOLLOWER_RATE: &str = "follower.replication.throttled.rate";

/// A topic's settings.
type Settings = BTreeMap<String, String>;

/// What a list of `partition:broker`, or `*`, names.
#[derive(Debug)]
enum Named {
    All,
    These(BTreeSet<(i32, i32)>),
}

impl Named {
    fn by(settings: &Settings, name: &str) -> Named {
        let list = settings.get(name).map_or("", String::as_str);
        if list.trim() == "*" {
            return Named::All;
        }
        let pair = |word: &str| {
            let (partition, broker) = word.trim().split_once(':')?;
            Some((partition.parse().ok()?, broker.parse().ok()?))
        };
        Named::These(list.split(',').filter_map(pair).collect())
    }

    fn contains(&self, partition: i32, broker: BrokerId) -> bool {
        match self {
            Named::All => true,
            Named::These(pairs) => pairs.contains(&(partition, broker.get())),
        }
    }
}

/// Whose traffic of a partition is limited, where `me` leads it.
pub(super) fn throttled(
    settings: &Settings,
    me: BrokerId,
    index: i32,
    partition: &Partition,
) -> Throttled {
    if !settings.contains_key(LEADERS) && !settings.contains_key(FOLLOWERS) {
        return Throttled::default();
    }
    let (leaders, followers) = (Named::by(settings, LEADERS), Named::by(settings, FOLLOWERS));
    let named = partition.replicas.iter().copied();
    let named = named.filter(|id| *id != me && followers.contains(index, *id));
    Throttled {
        leading: leaders.contains(index, me),
        followers: named.collect(),
    }
}

/// The limits that `me` keeps.
pub(super) fn of(image: &Image, me: BrokerId, leading: Option<u64>) -> Throttles {
    let limited = image.brokers().filter_map(|broker| {
        let limit = follower_rate(image, broker.id)?;
        (broker.id != me).then_some((broker.id, limit))
    });
    let mut lists = BTreeMap::new();
    let shares = limited.map(|(id, limit)| {
        let mut senders = senders_to(image, id, &mut lists);
        senders.insert(me);
        (id, (limit / senders.len() as u64).max(1))
    });
    Throttles {
        leading,
        followers: shares.collect(),
    }
}

fn follower_rate(image: &Image, broker: BrokerId) -> Option<u64> {
    let given = |resource: &Resource| image.configs_of(resource)?.get(FOLLOWER_RATE).cloned();
    let given = given(&Resource::broker(broker)).or_else(|| given(&Resource::cluster()));
    rate(given?.parse().ok()?)
}

/// Who leads partitions that `follower` is throttled for at this moment.
fn senders_to(
    image: &Image,
    follower: BrokerId,
    lists: &mut BTreeMap<TopicId, Named>,
) -> BTreeSet<BrokerId> {
    let hosted = image.hosted_by(follower);
    let behind = hosted.filter(|(_, partition)| !partition.isr.contains(&follower));
    let sent = behind.filter_map(|(id, partition)| {
        let leader = partition.leader?;
        let list = lists.entry(id.topic).or_insert_with(|| {
            let topic = image.topic(id.topic).expect("a partition has a topic");
            let settings = image.configs_of(&Resource {
                kind: ResourceKind::Topic,
                name: topic.name.to_string(),
            });
            let none = Settings::new();
            Named::by(settings.map_or(&none, |own| &**own), FOLLOWERS)
        });
        list.contains(id.index, follower).then_some(leader)
    });
    sent.collect()
}

#[cfg(test)]
mod tests {
    use millrace_metadata::{Batch, Broker, FeatureRange, Record, UnknownFields};
    use millrace_model::{
        BrokerEpoch, DirectoryId, ImageVersion, Incarnation, PartitionId, TopicName, Uuid,
    };

    use super::*;

    const TOPIC: TopicId = TopicId(Uuid([7; 16]));

    fn ids(ids: &[i32]) -> Vec<BrokerId> {
        ids.iter().copied().map(BrokerId).collect()
    }

    fn directory(id: i32) -> DirectoryId {
        DirectoryId(Uuid([id as u8; 16]))
    }

    fn partition(replicas: &[i32], isr: &[i32]) -> Partition {
        Partition {
            replicas: ids(replicas),
            directories: replicas.iter().copied().map(directory).collect(),
            isr: ids(isr),
            leader: isr.first().copied().map(BrokerId),
            ..Partition::default()
        }
    }

    fn register(id: i32) -> Record {
        Record::RegisterBroker(Broker {
            id: BrokerId(id),
            epoch: BrokerEpoch(i64::from(id)),
            incarnation: Incarnation(Uuid([id as u8; 16])),
            listeners: Vec::new(),
            rack: None,
            features: FeatureRange::supported(),
            directories: vec![directory(id)],
            short: Vec::new(),
            slow: Vec::new(),
            fenced: false,
            shutting_down: false,
            registered_at: ImageVersion(0),
            unknown: UnknownFields::default(),
        })
    }

    fn set(resource: Resource, name: &str, value: &str) -> Record {
        Record::Config {
            resource,
            name: name.to_owned(),
            value: Some(value.to_owned()),
        }
    }

    /// Brokers 1 to 4 and a topic of these partitions, whose replicas `list` names.
    fn image(list: &str, partitions: Vec<Partition>, more: Vec<Record>) -> Image {
        let name = TopicName::new("t").expect("a name");
        let mut records = vec![Record::Cluster { id: "test".into() }];
        records.extend((1..=4).map(register));
        records.push(Record::Topic {
            id: TOPIC,
            name: name.clone(),
            unknown: UnknownFields::default(),
        });
        for (index, partition) in (0..).zip(partitions) {
            let id = PartitionId {
                topic: TOPIC,
                index,
            };
            records.push(Record::Partition { id, partition });
        }
        records.push(set(Resource::topic(&name), FOLLOWERS, list));
        records.extend(more);
        let before = Image::default();
        let batch = Batch {
            based_on: before.version(),
            records,
        };
        before.apply(&batch, ImageVersion(1)).expect("it fits")
    }

    #[test]
    fn a_followers_limit_is_shared_by_those_who_send_to_it() {
        let behind = |leader: i32| partition(&[leader, 4], &[leader]);
        let limit = |broker: &Resource| set(broker.clone(), FOLLOWER_RATE, "900");
        let partitions = vec![
            behind(1),
            behind(1),
            behind(2),
            // In sync, or not named: neither is limited.
            partition(&[3, 4], &[3, 4]),
            behind(3),
        ];
        let one = limit(&Resource::broker(BrokerId(4)));
        let image_of = |more| image("0:4,1:4,2:4,3:4", partitions.clone(), more);
        let image = image_of(vec![one]);
        let followers = |me: i32| of(&image, BrokerId(me), None).followers;
        assert_eq!(followers(1), [(BrokerId(4), 450)].into());
        assert_eq!(followers(2), [(BrokerId(4), 450)].into());
        // Who sends nothing yet would have to share.
        assert_eq!(followers(3), [(BrokerId(4), 300)].into());
        assert_eq!(followers(4), [].into());
        let all = image_of(vec![limit(&Resource::cluster())]);
        assert_eq!(of(&all, BrokerId(1), Some(7)).leading, Some(7));
        assert_eq!(of(&all, BrokerId(1), None).followers.len(), 3);
        let none = image_of(Vec::new());
        assert_eq!(of(&none, BrokerId(1), None), Throttles::default());
    }

    #[test]
    fn the_lists_of_a_topic_name_leaders_and_followers() {
        let check = |leaders: &str, followers: &str, leading: bool, named: &[i32]| {
            let settings = [(LEADERS, leaders), (FOLLOWERS, followers)];
            let settings = settings.map(|(name, list)| (name.to_owned(), list.to_owned()));
            let of = partition(&[1, 2, 3], &[1, 2, 3]);
            let expected = Throttled {
                leading,
                followers: ids(named),
            };
            assert_eq!(
                throttled(&settings.into(), BrokerId(1), 5, &of),
                expected,
                "{leaders} {followers}"
            );
        };
        check("5:1,5:2", "5:3,5:1,5:4", true, &[3]);
        check("4:1,5:2", "4:2,6:3", false, &[]);
        check("*", "*", true, &[2, 3]);
        check("", "", false, &[]);
        let of = partition(&[1, 2, 3], &[1, 2, 3]);
        let none = throttled(&Settings::new(), BrokerId(1), 5, &of);
        assert_eq!(none, Throttled::default());
    }
}
