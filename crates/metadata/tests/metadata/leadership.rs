//! Who leads, who is in sync and who is eligible, after what may happen to brokers.

use std::time::Duration;

use crate::common::*;
use millrace_metadata::decide::*;
use millrace_metadata::*;
use millrace_model::*;

/// A cluster of brokers 1 to 4 with one partition, told in words: `1,2,3 isr 1,2 elr 3 leader 1`.
/// After that what is special: `min 2`, `page-cache`, `unclean`, `fenced 2,4`, `short 1` (of
/// space), `adding 4`, `removing 1`, `epoch 4`, `last 1`, `recovering`.
fn world(text: &str) -> Image {
    let words: Vec<&str> = text.split(' ').collect();
    let list = |name: &str| -> Vec<i32> {
        let place = words.iter().position(|word| *word == name);
        let value = place.map_or("", |place| words[place + 1]);
        value
            .split(',')
            .filter_map(|number| number.parse().ok())
            .collect()
    };
    let has = |word: &str| words.contains(&word);
    let replicas: Vec<i32> = words[0].split(',').map(|n| n.parse().unwrap()).collect();
    let setting = |name: &str, value: String| Record::Config {
        resource: Resource::topic(&TopicName::new("t").unwrap()),
        name: name.to_owned(),
        value: Some(value),
    };
    let mut records: Vec<Record> = vec![Record::Cluster { id: "test".into() }];
    for id in 1..=4 {
        records.push(Record::RegisterBroker(Broker {
            fenced: list("fenced").contains(&id),
            short: list("short")
                .contains(&id)
                .then_some(dir(id))
                .into_iter()
                .collect(),
            slow: list("slow")
                .contains(&id)
                .then_some(dir(id))
                .into_iter()
                .collect(),
            ..broker(id, i64::from(id))
        }));
    }
    records.push(topic_record(1, "t"));
    if let [min_insync] = list("min")[..] {
        records.push(setting("min.insync.replicas", min_insync.to_string()));
    }
    if has("unclean") {
        records.push(setting("unclean.leader.election.enable", "true".into()));
    }
    let durability = if has("page-cache") {
        Durability::PageCache
    } else {
        Durability::Fsync
    };
    records.push(setting("millrace.durability", durability.to_string()));
    let partition = Partition {
        isr: ids(&list("isr")),
        elr: ids(&list("elr")),
        last_known_elr: ids(&list("last")),
        leader: list("leader").first().copied().map(BrokerId),
        leader_epoch: LeaderEpoch(list("epoch").first().copied().unwrap_or(0)),
        adding: ids(&list("adding")),
        removing: ids(&list("removing")),
        recovery: if has("recovering") {
            Recovery::Recovering
        } else {
            Recovery::Recovered
        },
        durability,
        ..partition(&replicas, &[])
    };
    records.push(Record::Partition {
        id: pid(1, 0),
        partition,
    });
    after(&Image::default(), records)
}

fn told(image: &Image) -> String {
    let p = image.partition(pid(1, 0)).unwrap();
    let list = |brokers: &[BrokerId]| {
        brokers
            .iter()
            .map(BrokerId::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    let mut text = list(&p.replicas);
    let mut tell = |name: &str, value: String| {
        if !value.is_empty() {
            text += &format!(" {name} {value}");
        }
    };
    tell("isr", list(&p.isr));
    tell("elr", list(&p.elr));
    tell(
        "leader",
        p.leader.map(|l| l.to_string()).unwrap_or_default(),
    );
    tell("epoch", p.leader_epoch.to_string());
    tell("last", list(&p.last_known_elr));
    tell("adding", list(&p.adding));
    tell("removing", list(&p.removing));
    if p.recovery == Recovery::Recovering {
        text += " recovering";
    }
    text
}

/// One event: `fence 1`, `beat 1`, `short 1`, `room 1`, `stop 1`, `restart 1`, `crash 1`, `wipe 1`,
/// `lose-disk 1`, `damage 1`, `unregister 1`, `prefer`, `order`, `join 2` or `leave 2` (asked for by
/// the leader), `move 2,3`,
/// `cancel`, or a setting, `name=value`.
fn happen(image: &Image, event: &str) -> Image {
    let (verb, object) = event.split_once(' ').unwrap_or((event, ""));
    let number = || BrokerId(object.parse().unwrap());
    let records = match verb {
        "fence" => fence(image, &[number()]).records,
        "beat" | "stop" | "short" | "room" | "slow" | "quick" => beat(image, number(), verb),
        "restart" | "crash" | "wipe" => restart(image, number(), verb),
        "lose-disk" => {
            let known = image.broker(number()).unwrap();
            directory_failed(image, known.id, known.epoch, &known.directories).records
        }
        "damage" => {
            let known = image.broker(number()).unwrap();
            let epoch = image.partition(pid(1, 0)).unwrap().leader_epoch;
            replicas_damaged(image, known.id, known.epoch, &[(pid(1, 0), epoch)]).records
        }
        "unregister" => unregister_broker(image, number()).records,
        "prefer" => elect(image, ElectionKind::Preferred, None).records,
        "order" => elect(image, ElectionKind::Unclean, None).records,
        "join" | "leave" => ask(image, number(), verb == "join"),
        "move" | "cancel" => {
            let to = object
                .split(',')
                .filter_map(|n| n.parse().ok())
                .map(BrokerId)
                .collect();
            let one = Reassignment {
                topic: "t".into(),
                index: 0,
                replicas: (verb == "move").then_some(to),
                may_change_factor: true,
            };
            reassign(image, &[one]).records
        }
        _ => {
            let (name, value) = event.split_once('=').unwrap();
            let topic = Resource::topic(&TopicName::new("t").unwrap());
            let ops = vec![(name.to_owned(), ConfigOp::Set(value.to_owned()))];
            alter_configs(image, &AnyConfig, &[(topic, ops)], false).records
        }
    };
    after(image, records)
}

fn beat(image: &Image, id: BrokerId, verb: &str) -> Vec<Record> {
    let known = image.broker(id).unwrap();
    let beat = Heartbeat {
        id,
        epoch: known.epoch,
        image_version: image.version(),
        interval: Duration::from_millis(100),
        wants_fence: false,
        wants_shutdown: verb == "stop",
        offline_directories: vec![],
        short_directories: match verb {
            "short" => known.directories.clone(),
            "room" => vec![],
            _ => known.short.clone(),
        },
        slow_directories: match verb {
            "slow" => known.directories.clone(),
            "quick" => vec![],
            _ => known.slow.clone(),
        },
    };
    let mut sessions = Sessions::new(Duration::from_secs(1));
    heartbeat(image, &mut sessions, &beat, Duration::ZERO).records
}

fn restart(image: &Image, id: BrokerId, how: &str) -> Vec<Record> {
    let known = image.broker(id).unwrap();
    let fresh = u128::from(image.version().get()) << 64;
    let directory = if how == "wipe" {
        DirectoryId(uuid(fresh))
    } else {
        known.directories[0]
    };
    let registration = Registration {
        id,
        cluster_id: "test".into(),
        incarnation: Incarnation(uuid(fresh)),
        listeners: known.listeners.clone(),
        rack: None,
        features: FeatureRange::supported(),
        directories: vec![directory],
        has_offline_directories: false,
        clean_shutdown_epoch: (how == "restart").then_some(known.epoch),
    };
    let sessions = Sessions::new(Duration::from_secs(1));
    let decision = register_broker(image, &sessions, &registration, Duration::ZERO);
    assert!(decision.reply.unwrap() > known.epoch);
    decision.records
}

fn ask(image: &Image, id: BrokerId, joins: bool) -> Vec<Record> {
    let p = image.partition(pid(1, 0)).unwrap();
    let leader = image.broker(p.leader.unwrap()).unwrap();
    let mut isr = p.isr.clone();
    isr.retain(|member| *member != id);
    isr.extend(joins.then_some(id));
    let member = |broker: &BrokerId| IsrMember {
        broker: *broker,
        epoch: image.broker(*broker).unwrap().epoch,
    };
    let request = IsrRequest {
        broker: leader.id,
        broker_epoch: leader.epoch,
        changes: vec![IsrChange {
            id: pid(1, 0),
            leader_epoch: p.leader_epoch,
            partition_epoch: p.partition_epoch,
            isr: isr.iter().map(member).collect(),
            recovery: Recovery::Recovered,
            confirms_fsync: false,
        }],
    };
    alter_partitions(image, &request).records
}

/// From a world, after events separated by semicolons, to what is told of the partition.
fn check(from: &str, events: &str, to: &str) {
    let mut image = world(from);
    for event in events.split("; ") {
        image = happen(&image, event);
    }
    assert_eq!(told(&image), to, "{from} | {events}");
}

#[test]
fn fencing_moves_leaders_in_replica_order_and_keeps_the_last_member() {
    check(
        "1,2,3 isr 3,2,1 leader 1",
        "fence 1",
        "1,2,3 isr 3,2 leader 2 epoch 1",
    );
    check(
        "1,2,3 isr 1,2,3 leader 1",
        "fence 3",
        "1,2,3 isr 1,2 leader 1 epoch 0",
    );
    check("1,2,3 isr 1 leader 1", "fence 1", "1,2,3 isr 1 epoch 1");
    check(
        "1,2,3 isr 1 leader 1",
        "fence 1; beat 2; beat 1",
        "1,2,3 isr 1 leader 1 epoch 2",
    );
    check(
        "1,2,3 isr 2 leader 2",
        "fence 1",
        "1,2,3 isr 2 leader 2 epoch 0",
    );
}

#[test]
fn leaders_leave_brokers_that_are_short_of_space_while_others_have_room() {
    let full = "1,2,3 isr 1,2,3 leader 1";
    check(full, "short 1", "1,2,3 isr 1,2,3 leader 2 epoch 1");
    check(full, "short 2; short 1", "1,2,3 isr 1,2,3 leader 3 epoch 1");
    check(full, "short 2", "1,2,3 isr 1,2,3 leader 1 epoch 0");
    // Where everybody is short nobody is better, and nothing moves.
    check(
        full,
        "short 1; short 2; short 3",
        "1,2,3 isr 1,2,3 leader 3 epoch 2",
    );
    check(
        "1,2 isr 1 leader 1",
        "short 1",
        "1,2 isr 1 leader 1 epoch 0",
    );
    // Who dies is replaced by whoever has room, else by whoever is left.
    check(
        "1,2,3 isr 1,2,3 leader 1 short 2",
        "fence 1",
        "1,2,3 isr 2,3 leader 3 epoch 1",
    );
    check(
        "1,2,3 isr 1,2 leader 1 short 2",
        "fence 1",
        "1,2,3 isr 2 leader 2 epoch 1",
    );
    check(
        "1,2,3 isr 1 elr 2,3 min 3 leader 1 short 2",
        "fence 1",
        "1,2,3 isr 3 elr 2,1 leader 3 epoch 1",
    );
    // One with room takes over once it is in sync, or once it has room.
    check(
        "1,2,3 isr 1 leader 1 short 1",
        "join 2",
        "1,2,3 isr 1,2 leader 2 epoch 1",
    );
    check(
        "1,2,3 isr 1,2 leader 1 short 1,2",
        "room 2",
        "1,2,3 isr 1,2 leader 2 epoch 1",
    );
    // The preferred leader is not preferred to others while it is short.
    check(full, "short 1; prefer", "1,2,3 isr 1,2,3 leader 2 epoch 1");
    check(
        full,
        "short 1; room 1; prefer",
        "1,2,3 isr 1,2,3 leader 1 epoch 2",
    );
}

#[test]
fn slow_replicas_lead_nothing_and_are_waited_for_by_nobody_while_others_are_quick() {
    let full = "1,2,3 isr 1,2,3 leader 1";
    check(full, "slow 1", "1,2,3 isr 2,3 leader 2 epoch 1");
    check(full, "slow 2", "1,2,3 isr 1,3 leader 1 epoch 0");
    // Two stay, and as many as are asked for, of whom nobody waits for another in vain.
    check(full, "slow 2; slow 3", "1,2,3 isr 1,3 leader 1 epoch 0");
    check(full, "slow 2; slow 1", "1,2,3 isr 1,3 leader 3 epoch 1");
    check(
        "1,2,3 isr 1,2,3 min 3 leader 1",
        "slow 1",
        "1,2,3 isr 1,2,3 leader 2 epoch 1",
    );
    check(
        "1,2 isr 1,2 leader 1",
        "slow 1",
        "1,2 isr 1,2 leader 2 epoch 1",
    );
    check("1 isr 1 leader 1", "slow 1", "1 isr 1 leader 1 epoch 0");
    // Where all are slow nobody is better.
    check(
        "1,2,3 isr 1,2,3 leader 1 slow 2,3",
        "slow 1",
        "1,2,3 isr 1,2,3 leader 1 epoch 0",
    );
    // Who is slow has room at least.
    check(
        "1,2,3 isr 1,2 leader 1 short 2",
        "slow 1",
        "1,2,3 isr 1,2 leader 1 epoch 0",
    );
    // It joins again when it is quick, before that only where too few are left.
    check(
        "1,2,3 isr 1,3 leader 1 slow 2",
        "join 2",
        "1,2,3 isr 1,3 leader 1 epoch 0",
    );
    check(
        "1,2,3 isr 1,3 leader 1 slow 2",
        "quick 2; join 2",
        "1,2,3 isr 1,3,2 leader 1 epoch 0",
    );
    check(
        "1,2,3 isr 1 leader 1 slow 2",
        "join 2",
        "1,2,3 isr 1,2 leader 1 epoch 0",
    );
}

#[test]
fn leaders_come_back_to_who_has_room_again() {
    let mut image = world("1,2,3 isr 1,2,3 leader 1");
    let mut sessions = Sessions::new(Duration::from_secs(1));
    let mut tell = |image: &Image, short: &[DirectoryId], at: u64| {
        let beat = Heartbeat {
            id: BrokerId(1),
            epoch: image.broker(BrokerId(1)).unwrap().epoch,
            image_version: image.version(),
            interval: Duration::from_millis(100),
            wants_fence: false,
            wants_shutdown: false,
            offline_directories: vec![],
            short_directories: short.to_vec(),
            slow_directories: vec![],
        };
        let now = Duration::from_secs(at);
        let image = after(image, heartbeat(image, &mut sessions, &beat, now).records);
        let image = after(&image, bring_back(&image, &mut sessions, now).records);
        (told(&image), image)
    };
    for (at, short, leader) in [
        (10, true, 2),
        (11, false, 2),
        // What only just fits moves nobody to and fro.
        (12, true, 2),
        (13, false, 2),
        (15, false, 2),
        (16, false, 1),
    ] {
        let directories = [dir(1)];
        let short = if short { &directories[..] } else { &[] };
        let (text, next) = tell(&image, short, at);
        assert!(
            text.contains(&format!("leader {leader} ")),
            "at {at}: {text}"
        );
        image = next;
    }
    // Nothing is left to do.
    let again = tell(&image, &[], 17).1;
    assert_eq!(again.version(), image.version());
    assert!(sessions.with_room_again(Duration::from_secs(17)).is_empty());
}

#[test]
fn who_leaves_an_isr_below_the_minimum_is_eligible_still() {
    let full = "1,2,3 isr 1,2,3 leader 1 min 2";
    check(full, "fence 1", "1,2,3 isr 2,3 leader 2 epoch 1");
    check(
        full,
        "fence 1; fence 2",
        "1,2,3 isr 3 elr 2 leader 3 epoch 2",
    );
    check(
        full,
        "fence 1; fence 2; fence 3",
        "1,2,3 isr 3 elr 2 epoch 3",
    );
    // The eligible one comes back first and leads; who was in sync is eligible then.
    check(
        full,
        "fence 1; fence 2; fence 3; beat 2",
        "1,2,3 isr 2 elr 3 leader 2 epoch 4",
    );
    // Who left before the ISR fell below the minimum is not.
    check(
        full,
        "fence 1; fence 2; fence 3; beat 1",
        "1,2,3 isr 3 elr 2 epoch 3",
    );
    // At the minimum again there is no ELR.
    check(
        "1,2,3 isr 1 elr 2 leader 1 min 2",
        "join 2",
        "1,2,3 isr 1,2 leader 1 epoch 0",
    );
    check(
        "1,2,3 isr 1 elr 2 leader 1 min 2",
        "join 3",
        "1,2,3 isr 1,3 leader 1 epoch 0",
    );
    check(
        "1,2,3 isr 1 elr 2 leader 1 min 3",
        "join 3",
        "1,2,3 isr 1,3 elr 2 leader 1 epoch 0",
    );
    // Both leave at once.
    check(
        "1,2,3 isr 1,2,3 leader 1 min 3",
        "leave 2; leave 3",
        "1,2,3 isr 1 elr 2,3 leader 1 epoch 0",
    );
    // More than there are replicas cannot be asked for.
    check(
        "1,2 isr 1,2 leader 1 min 3",
        "fence 2",
        "1,2 isr 1 elr 2 leader 1 epoch 0",
    );
}

#[test]
fn unclean_leaders_are_elected_where_that_is_allowed_or_ordered() {
    let dead = "1,2,3 isr 1 leader 1";
    check(
        dead,
        "fence 1; order",
        "1,2,3 isr 2 leader 2 epoch 2 recovering",
    );
    check(
        "1,2,3 isr 1 leader 1 unclean",
        "fence 1",
        "1,2,3 isr 2 leader 2 epoch 1 recovering",
    );
    check(
        dead,
        "fence 1; unclean.leader.election.enable=true",
        "1,2,3 isr 2 leader 2 epoch 2 recovering",
    );
    check(dead, "order", "1,2,3 isr 1 leader 1 epoch 0");
    // An eligible one goes first, and is no risk.
    check(
        "1,2,3 isr 1 elr 3 min 2 leader 1 unclean",
        "fence 1",
        "1,2,3 isr 3 elr 1 leader 3 epoch 1",
    );
    check(
        "1,2,3 isr 2 leader 2 recovering",
        "join 3",
        "1,2,3 isr 2,3 leader 2 epoch 0",
    );
}

#[test]
fn a_new_incarnation_never_leads_under_the_old_epoch() {
    for how in ["restart", "crash"] {
        let alone = format!("{how} 1; beat 1");
        check("1 isr 1 leader 1", &format!("{how} 1"), "1 isr 1 epoch 1");
        check("1 isr 1 leader 1", &alone, "1 isr 1 leader 1 epoch 2");
        let both = "1,2 isr 1,2 leader 1 min 2";
        check(
            both,
            &format!("{how} 1"),
            "1,2 isr 2 elr 1 leader 2 epoch 1",
        );
        check(
            both,
            &format!("{how} 2"),
            "1,2 isr 1 elr 2 leader 1 epoch 0",
        );
    }
}

#[test]
fn an_unclean_stop_costs_its_places_where_the_page_cache_was_trusted() {
    let both = "1,2 isr 1,2 leader 1 min 2 page-cache";
    check(both, "crash 1", "1,2 isr 2 leader 2 epoch 1");
    check(both, "restart 1", "1,2 isr 2 elr 1 leader 2 epoch 1");
    check(
        "1,2 isr 1 elr 2 leader 1 min 2 page-cache",
        "crash 2",
        "1,2 isr 1 leader 1 epoch 0",
    );
    // The last member too; but who led last leads again when nobody is better.
    let alone = "1,2 isr 1 leader 1 page-cache";
    check(alone, "crash 1", "1,2 epoch 1 last 1");
    check(alone, "crash 1; crash 2; beat 2", "1,2 epoch 1 last 1");
    check(
        alone,
        "crash 1; beat 1",
        "1,2 isr 1 leader 1 epoch 2 recovering",
    );
    check(
        alone,
        "crash 1; beat 1; join 2",
        "1,2 isr 1,2 leader 1 epoch 2",
    );
    // What happened before the change counts by what was promised then.
    check(
        "1,2 isr 1,2 leader 1 min 2 page-cache",
        "millrace.durability=fsync; crash 2",
        "1,2 isr 1 leader 1 epoch 1",
    );
    check(
        "1,2 isr 1,2 leader 1 min 2",
        "millrace.durability=page-cache; crash 2",
        "1,2 isr 1 leader 1 epoch 0",
    );
}

#[test]
fn a_damaged_replica_is_relieved_where_another_one_can_take_its_place() {
    let full = "1,2,3 isr 1,2,3 leader 1 min 2";
    check(full, "damage 1", "1,2,3 isr 2,3 leader 2 epoch 1");
    // A new leadership, in which nobody relies on what it acknowledged.
    check(full, "damage 3", "1,2,3 isr 1,2 leader 1 epoch 1");
    // Not even below the minimum is it eligible.
    let two = "1,2,3 isr 1,2 leader 1 min 2";
    check(two, "damage 2", "1,2,3 isr 1 leader 1 epoch 1");
    check(
        "1,2,3 isr 1 elr 2,3 leader 1 min 2",
        "damage 2",
        "1,2,3 isr 1 elr 3 leader 1 epoch 1",
    );
    // Who left the ISR with all that was committed takes the place of the last one in it.
    let last = "1,2,3 isr 1 elr 2,3 leader 1 min 2";
    check(last, "damage 1", "1,2,3 isr 2 elr 3 leader 2 epoch 1");
    check(
        "1,2,3 isr 1 elr 2,3 leader 1 min 2 fenced 2",
        "damage 1",
        "1,2,3 isr 3 elr 2 leader 3 epoch 1",
    );
    // Who is outside may be about to come back.
    check(
        "1,2,3 isr 1,2 leader 1",
        "damage 3",
        "1,2,3 isr 1,2 leader 1 epoch 1",
    );
    // The last one stays, and so does one that only others could replace who cannot lead.
    let alone = "1,2,3 isr 1 leader 1";
    check(alone, "damage 1", "1,2,3 isr 1 leader 1 epoch 0");
    check("1,2,3 isr 1 fenced 1", "damage 1", "1,2,3 isr 1 epoch 0");
    let only_one_stays = "1,2 isr 1,2 leader 1";
    let before = told(&happen(&world(only_one_stays), "stop 2"));
    check(only_one_stays, "stop 2; damage 1", &before);
}

#[test]
fn damage_is_told_by_who_has_the_replica_and_knows_the_leadership() {
    let image = world("1,2 isr 1,2 leader 1 epoch 5");
    let ask = |id, broker_epoch, partition, epoch| {
        let damaged = [(partition, LeaderEpoch(epoch))];
        replicas_damaged(&image, BrokerId(id), BrokerEpoch(broker_epoch), &damaged).reply
    };
    let codes = |code| Ok(vec![code]);
    assert_eq!(ask(1, 1, pid(1, 0), 4), codes(ErrorCode::FencedLeaderEpoch));
    assert_eq!(ask(1, 1, pid(1, 0), 6), codes(ErrorCode::NotController));
    assert_eq!(
        ask(3, 3, pid(1, 0), 5),
        codes(ErrorCode::NotLeaderOrFollower)
    );
    assert_eq!(
        ask(1, 1, pid(1, 9), 5),
        codes(ErrorCode::UnknownTopicOrPartition)
    );
    assert_eq!(ask(1, 1, pid(7, 0), 5), codes(ErrorCode::UnknownTopicId));
    let stale = ask(1, 9, pid(1, 0), 5).unwrap_err();
    assert_eq!(stale.code, ErrorCode::StaleBrokerEpoch);
    assert_eq!(ask(1, 1, pid(1, 0), 5), codes(ErrorCode::None));
}

#[test]
fn a_wiped_directory_is_an_empty_replica() {
    let both = "1,2 isr 1,2 leader 1 min 2";
    check(both, "wipe 1", "1,2 isr 2 leader 2 epoch 1");
    check(
        both,
        "wipe 1; beat 1; join 1",
        "1,2 isr 2,1 leader 2 epoch 1",
    );
    check(
        "1,2 isr 1 elr 2 leader 1 min 2",
        "wipe 2",
        "1,2 isr 1 leader 1 epoch 0",
    );
    check(
        "1,2 isr 1 elr 2 leader 1 min 2",
        "wipe 1",
        "1,2 isr 2 leader 2 epoch 1",
    );
    // The last one: it does not lead by itself, neither empty nor because it led last.
    check("1,2 isr 1 leader 1", "wipe 1; beat 1", "1,2 epoch 1 last 1");
    check(
        "1,2 isr 1 leader 1",
        "wipe 1; beat 1; order",
        "1,2 isr 2 leader 2 epoch 2 recovering",
    );
    check(
        "1 isr 1 leader 1",
        "wipe 1; beat 1; order",
        "1 isr 1 leader 1 epoch 2 recovering",
    );
}

#[test]
fn a_failed_directory_is_like_a_fenced_broker() {
    check(
        "1,2 isr 1,2 leader 1",
        "lose-disk 1",
        "1,2 isr 2 leader 2 epoch 1",
    );
    check(
        "1,2 isr 1 leader 1",
        "lose-disk 1; beat 1",
        "1,2 isr 1 epoch 1",
    );
    check(
        "1,2 isr 1,2 leader 1 min 2",
        "lose-disk 2",
        "1,2 isr 1 elr 2 leader 1 epoch 0",
    );
}

#[test]
fn a_broker_that_stops_hands_over() {
    check(
        "1,2,3 isr 1,2,3 leader 1",
        "stop 1",
        "1,2,3 isr 2,3 leader 2 epoch 1",
    );
    check(
        "1,2,3 isr 1,2,3 leader 2",
        "stop 1",
        "1,2,3 isr 2,3 leader 2 epoch 0",
    );
    // Where it is the only one, it leads on until another can.
    check(
        "1,2,3 isr 1 leader 1",
        "stop 1",
        "1,2,3 isr 1 leader 1 epoch 0",
    );
    check(
        "1,2,3 isr 1 leader 1",
        "stop 1; join 2",
        "1,2,3 isr 1,2 leader 2 epoch 1",
    );
    check(
        "1,2,3 isr 1 leader 1",
        "stop 1; join 2; beat 1",
        "1,2,3 isr 2 leader 2 epoch 1",
    );
    // Nobody else could ever lead: nothing to wait for.
    check("1 isr 1 leader 1", "stop 1", "1 isr 1 epoch 1");
}

#[test]
fn unregistering_leaves_only_the_last_member() {
    check(
        "1,2 isr 1,2 leader 1 min 2",
        "unregister 1",
        "1,2 isr 2 leader 2 epoch 1",
    );
    check(
        "1,2 isr 1 elr 2 leader 1 min 2",
        "unregister 2",
        "1,2 isr 1 leader 1 epoch 0",
    );
    check("1,2 isr 1 leader 1", "unregister 1", "1,2 isr 1 epoch 1");
}

#[test]
fn preferred_leaders_come_back_when_they_are_in_sync() {
    check(
        "1,2 isr 2,1 leader 2",
        "prefer",
        "1,2 isr 2,1 leader 1 epoch 1",
    );
    check("1,2 isr 2 leader 2", "prefer", "1,2 isr 2 leader 2 epoch 0");
}

#[test]
fn a_change_of_the_minimum_empties_the_elr() {
    let below = "1,2,3 isr 1 elr 2,3 leader 1 min 3";
    check(
        below,
        "min.insync.replicas=2",
        "1,2,3 isr 1 leader 1 epoch 0",
    );
    check(
        below,
        "min.insync.replicas=4",
        "1,2,3 isr 1 elr 2,3 leader 1 epoch 0",
    );
    check(
        "1,2 isr 1 elr 2 fenced 1,2 min 2",
        "min.insync.replicas=1",
        "1,2 isr 1 epoch 0",
    );
    check(
        "1,2 elr 2 last 1 fenced 1,2 min 2",
        "min.insync.replicas=1",
        "1,2 elr 2 epoch 0 last 1",
    );
}

#[test]
fn a_change_to_fsync_begins_a_new_epoch() {
    let trusting = "1,2 isr 1,2 leader 1 page-cache";
    check(
        trusting,
        "millrace.durability=fsync",
        "1,2 isr 1,2 leader 1 epoch 1",
    );
    check(
        "1,2 isr 1 page-cache fenced 1",
        "millrace.durability=fsync",
        "1,2 isr 1 epoch 0",
    );
    check(trusting, "flush.messages=1", "1,2 isr 1,2 leader 1 epoch 1");
    let image = happen(&world(trusting), "millrace.durability=fsync");
    assert_eq!(
        image.partition(pid(1, 0)).unwrap().durability,
        Durability::PageCache
    );
}

#[test]
fn a_reassignment_takes_away_only_when_all_that_stay_are_in_sync() {
    let from = "1,2 isr 1,2 leader 1";
    let moving = "3,4,1,2 isr 1,2 leader 1 epoch 0 adding 3,4 removing 1,2";
    check(from, "move 3,4", moving);
    let half = "3,4,1,2 isr 1,2,3 leader 1 epoch 0 adding 3,4 removing 1,2";
    check(from, "move 3,4; join 3", half);
    check(
        from,
        "move 3,4; join 3; join 4",
        "3,4 isr 3,4 leader 3 epoch 1",
    );
    check(
        from,
        "move 3,4; join 3; cancel",
        "1,2 isr 1,2 leader 1 epoch 1",
    );
    check(from, "move 2,1", "2,1 isr 1,2 leader 1 epoch 0");
    check(from, "move 1", "1 isr 1 leader 1 epoch 1");
    check(from, "move 2", "2 isr 2 leader 2 epoch 1");
    check(
        from,
        "move 1,3",
        "1,3,2 isr 1,2 leader 1 epoch 0 adding 3 removing 2",
    );
    check(from, "move 1,3; join 3", "1,3 isr 1,3 leader 1 epoch 1");
    check(
        from,
        "move 1,3; fence 1",
        "1,3,2 isr 2 leader 2 epoch 1 adding 3 removing 2",
    );
    // Replaced by another: what was being added and is still wanted is added still.
    check(
        from,
        "move 1,3; move 3,4",
        "3,4,1,2 isr 1,2 leader 1 epoch 0 adding 3,4 removing 1,2",
    );
    // Nobody of the old ones is in sync: no way back without loss.
    let stuck = "3,1 isr 3 leader 3 adding 3 removing 1 fenced 1";
    check(
        stuck,
        "cancel",
        "3,1 isr 3 leader 3 epoch 0 adding 3 removing 1",
    );
    check(
        "3,1 isr 3 leader 3 adding 3 removing 1 unclean",
        "cancel",
        "1 isr 1 leader 1 epoch 1 recovering",
    );
}

#[test]
fn whatever_replaced_a_reassignment_a_cancel_finds_the_first_assignment() {
    let from = "1,2 isr 1,2 leader 1";
    let replaced = "3,1,2,4 isr 1,2 leader 1 epoch 0 adding 3,4 removing 1,2,4";
    check(from, "move 3,4; move 3", replaced);
    check(from, "move 3,4; move 3; join 3", "3 isr 3 leader 3 epoch 1");
    check(
        from,
        "move 3,4; move 3; cancel",
        "1,2 isr 1,2 leader 1 epoch 1",
    );
    // What joined meanwhile and is not wanted any more goes with the others, and not before.
    check(
        from,
        "move 3,4; join 4; move 3; join 3",
        "3 isr 3 leader 3 epoch 1",
    );
    check(
        from,
        "move 3,4; join 4; move 3",
        "3,1,2,4 isr 1,2,4 leader 1 epoch 0 adding 3,4 removing 1,2,4",
    );
    check(
        from,
        "move 3,4; join 4; move 3; cancel",
        "1,2 isr 1,2 leader 1 epoch 1",
    );
    // Back to where it was, by its name: done at once.
    check(from, "move 3,4; move 1,2", "1,2 isr 1,2 leader 1 epoch 1");
}

#[test]
fn a_move_that_must_keep_the_factor_is_counted_by_what_is_to_be() {
    let asked = |replicas: &[i32]| Reassignment {
        topic: "t".into(),
        index: 0,
        replicas: Some(ids(replicas)),
        may_change_factor: false,
    };
    let refused = |image: &Image, replicas: &[i32]| {
        let decision = reassign(image, &[asked(replicas)]);
        let code = decision.reply[0].as_ref().err().map(|why| why.code);
        assert_eq!(decision.records.is_empty(), code.is_some());
        code
    };
    let image = world("1,2 isr 1,2 leader 1");
    assert_eq!(refused(&image, &[3, 4]), None);
    assert_eq!(
        refused(&image, &[1, 3, 4]),
        Some(ErrorCode::InvalidReplicationFactor)
    );
    assert_eq!(
        refused(&image, &[1]),
        Some(ErrorCode::InvalidReplicationFactor)
    );
    let growing = happen(&image, "move 1,3,4");
    assert_eq!(refused(&growing, &[2, 3, 4]), None);
    assert_eq!(
        refused(&growing, &[1, 2]),
        Some(ErrorCode::InvalidReplicationFactor)
    );
}

#[test]
fn moves_that_cannot_be_are_refused_one_by_one() {
    let image = world("1,2 isr 1,2 leader 1");
    let asked = |topic: &str, index: i32, replicas: Option<&[i32]>| Reassignment {
        topic: topic.into(),
        index,
        replicas: replicas.map(ids),
        may_change_factor: true,
    };
    let all = [
        asked("t", 0, Some(&[])),
        asked("t", 0, Some(&[1, 1])),
        asked("t", 0, Some(&[1, 9])),
        asked("t", 0, None),
        asked("t", 1, Some(&[1])),
        asked("u", 0, Some(&[1])),
        asked("t", 0, Some(&[1, 3])),
    ];
    let decision = reassign(&image, &all);
    let codes: Vec<ErrorCode> = decision
        .reply
        .iter()
        .map(|result| {
            result
                .as_ref()
                .err()
                .map_or(ErrorCode::None, |why| why.code)
        })
        .collect();
    let expected = [
        ErrorCode::InvalidReplicaAssignment,
        ErrorCode::InvalidReplicaAssignment,
        ErrorCode::InvalidReplicaAssignment,
        ErrorCode::NoReassignmentInProgress,
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::None,
    ];
    assert_eq!(codes, expected);
    assert_eq!(
        told(&after(&image, decision.records)),
        "1,3,2 isr 1,2 leader 1 epoch 0 adding 3 removing 2"
    );
}
