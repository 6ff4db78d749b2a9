//! Registration, sessions, directories, features and producer ids.

use std::time::Duration;

use crate::common::*;
use millrace_metadata::decide::*;
use millrace_metadata::*;
use millrace_model::*;

const NOW: Duration = Duration::from_secs(100);

fn sessions() -> Sessions {
    Sessions::new(Duration::from_secs(1))
}

fn registration(id: i32, incarnation: u128) -> Registration {
    let node = broker(id, 0);
    Registration {
        id: b(id),
        cluster_id: "test".into(),
        incarnation: Incarnation(uuid(incarnation)),
        listeners: node.listeners,
        rack: None,
        features: node.features,
        directories: node.directories,
        has_offline_directories: false,
        clean_shutdown_epoch: None,
    }
}

fn check_refused(code: ErrorCode, why: &str, spoil: impl FnOnce(&mut Registration)) {
    let level = Record::FeatureLevel {
        name: "metadata.version".into(),
        level: 30,
    };
    let image = after(&cluster(&[1, 2]), vec![level]);
    let mut registration = registration(1, 77);
    spoil(&mut registration);
    let decision = register_broker(&image, &sessions(), &registration, NOW);
    let refusal = decision.reply.unwrap_err();
    assert_eq!(decision.records, []);
    assert_eq!(refusal.code, code);
    assert!(refusal.message.as_ref().unwrap().contains(why), "{refusal}");
}

#[test]
fn registrations_that_cannot_be_are_refused() {
    check_refused(
        ErrorCode::InconsistentClusterId,
        "Expected cluster ID test, but got cluster ID other",
        |r| r.cluster_id = "other".into(),
    );
    let directories = |code, why, directories: Vec<DirectoryId>| {
        check_refused(code, why, |r| r.directories = directories);
    };
    let invalid = ErrorCode::InvalidRegistration;
    directories(invalid, "No directories specified in request", vec![]);
    directories(
        invalid,
        "Reserved directory ID in request",
        vec![DirectoryId(uuid(1))],
    );
    directories(
        invalid,
        "Duplicate directory ID in request",
        vec![dir(1), dir(1)],
    );
    directories(
        invalid,
        "Broker 2 is already registered with directory",
        vec![dir(2)],
    );
    check_refused(
        ErrorCode::UnsupportedVersion,
        "Unable to register because the broker does not support finalized version 30 of \
         metadata.version. The broker wants a version between 1 and 1, inclusive.",
        |r| r.features.clear(),
    );
}

#[test]
fn a_second_process_does_not_take_the_place_of_one_that_is_there() {
    let image = cluster(&[1]);
    let mut sessions = sessions();
    sessions.step(NOW);
    sessions.stream_began(b(1), BrokerEpoch(1), NOW);
    let register =
        |sessions: &Sessions| register_broker(&image, sessions, &registration(1, 77), NOW).reply;
    let refusal = register(&sessions).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::DuplicateBrokerRegistration);
    // However quick the restart: once the stream has ended, nobody is there.
    sessions.stream_ended(b(1), BrokerEpoch(1), NOW);
    let epoch = register(&sessions).unwrap();
    assert!(epoch > BrokerEpoch(1) && epoch.get() > image.version().get() as i64);
}

#[test]
fn the_same_incarnation_keeps_its_registration() {
    let image = cluster(&[1]);
    let same = Incarnation(broker(1, 0).incarnation.0);
    let mut registration = registration(1, 0);
    registration.incarnation = same;
    let decision = register_broker(&image, &sessions(), &registration, NOW);
    assert_eq!(
        (decision.records.len(), decision.reply),
        (0, Ok(BrokerEpoch(1)))
    );
    registration.rack = Some("r".into());
    let decision = register_broker(&image, &sessions(), &registration, NOW);
    let image = after(&image, decision.records);
    let known = image.broker(b(1)).unwrap();
    assert_eq!((known.rack.as_deref(), known.fenced), (Some("r"), false));
}

#[test]
fn epochs_are_never_given_twice() {
    let mut image = cluster(&[]);
    let mut last = BrokerEpoch(-1);
    for round in 1..10 {
        let registration = registration(1, round);
        let decision = register_broker(&image, &sessions(), &registration, NOW);
        let epoch = decision.reply.unwrap();
        assert!(epoch > last);
        last = epoch;
        image = after(&image, decision.records);
        if round % 3 == 0 {
            image = after(&image, unregister_broker(&image, b(1)).records);
        }
    }
}

fn beat(image: &Image, id: i32) -> Heartbeat {
    Heartbeat {
        id: b(id),
        epoch: image.broker(b(id)).unwrap().epoch,
        image_version: image.version(),
        interval: Duration::from_millis(100),
        wants_fence: false,
        wants_shutdown: false,
        offline_directories: vec![],
        short_directories: vec![],
        slow_directories: vec![],
    }
}

#[test]
fn a_broker_is_unfenced_when_its_image_holds_its_registration() {
    let image = cluster(&[]);
    let decision = register_broker(&image, &sessions(), &registration(1, 7), NOW);
    let image = after(&image, decision.records);
    let mut behind = beat(&image, 1);
    behind.image_version = ImageVersion(image.version().get() - 1);
    let reply = heartbeat(&image, &mut sessions(), &behind, NOW)
        .reply
        .unwrap();
    assert!(reply.fenced && !reply.caught_up);
    let unready = Heartbeat {
        wants_fence: true,
        ..beat(&image, 1)
    };
    assert!(
        heartbeat(&image, &mut sessions(), &unready, NOW)
            .reply
            .unwrap()
            .fenced
    );
    let decision = heartbeat(&image, &mut sessions(), &beat(&image, 1), NOW);
    assert!(!decision.reply.as_ref().unwrap().fenced);
    assert!(!after(&image, decision.records).broker(b(1)).unwrap().fenced);
    let stale = Heartbeat {
        epoch: BrokerEpoch(0),
        ..beat(&image, 1)
    };
    let refusal = heartbeat(&image, &mut sessions(), &stale, NOW)
        .reply
        .unwrap_err();
    assert_eq!(refusal.code, ErrorCode::StaleBrokerEpoch);
}

#[test]
fn a_broker_that_missed_two_heartbeats_is_silent_until_the_next() {
    let image = cluster(&[1, 2]);
    let mut sessions = sessions();
    sessions.activate(&image, NOW);
    let ms = Duration::from_millis;
    let beats = |sessions: &mut Sessions, id, now| {
        sessions.step(now);
        sessions.majority_answered(now, now);
        assert!(
            heartbeat(&image, sessions, &beat(&image, id), now)
                .reply
                .is_ok()
        );
    };
    sessions.majority_answered(NOW + ms(240), NOW + ms(260));
    assert_eq!(sessions.silent(&image, NOW + ms(260)), [b(1), b(2)]);
    for id in [1, 2] {
        beats(&mut sessions, id, NOW);
    }
    for step in 1..=3 {
        beats(&mut sessions, 2, NOW + ms(100 * step));
        let silent = sessions.silent(&image, NOW + ms(100 * step));
        assert_eq!(silent, if step < 3 { vec![] } else { vec![b(1)] });
        assert!(sessions.expired(&image, NOW + ms(100 * step)).is_empty());
    }
    beats(&mut sessions, 1, NOW + ms(310));
    assert!(sessions.silent(&image, NOW + ms(310)).is_empty());
}

/// At what millisecond, and what.
type At<T> = (u64, T);

/// A controller and brokers that beat every hundred milliseconds, all of them heard until zero and
/// from `hears_again` on, though what a broker says arrives thirty milliseconds after the quorum's
/// answer. Returns when who was first named silent, and first to be fenced.
fn deaf_until(hears_again: u64, dead: Option<i32>) -> (Option<At<Vec<i32>>>, Vec<At<i32>>) {
    let image = cluster(&[1, 2, 3]);
    let mut sessions = sessions();
    sessions.activate(&image, NOW);
    let (mut silent, mut expired) = (None, Vec::new());
    for step in 0..300 {
        let (at, now) = (step * 10, NOW + Duration::from_millis(step * 10));
        sessions.step(now);
        let hears = at == 0 || at >= hears_again;
        if hears && at % 100 == 0 {
            sessions.majority_answered(now, now);
        }
        let beats = [1, 2, 3]
            .into_iter()
            .filter(|id| Some(*id) != dead || at == 0);
        for id in beats.filter(|_| hears && (at == 0 || at % 100 == 30)) {
            let beat = beat(&image, id);
            assert!(heartbeat(&image, &mut sessions, &beat, now).reply.is_ok());
        }
        let numbers = |ids: Vec<BrokerId>| ids.into_iter().map(BrokerId::get);
        let named: Vec<i32> = numbers(sessions.silent(&image, now)).collect();
        if !named.is_empty() {
            silent.get_or_insert((at, named));
        }
        for id in numbers(sessions.expired(&image, now)) {
            if expired.iter().all(|(_, known)| *known != id) {
                expired.push((at, id));
            }
        }
    }
    (silent, expired)
}

#[test]
fn a_controller_that_hears_nobody_takes_nobody_for_silent_or_dead() {
    // Never again; and again before and after every session is over.
    for hears_again in [100_000, 700, 1_800] {
        assert_eq!(
            deaf_until(hears_again, None),
            (None, vec![]),
            "{hears_again}"
        );
    }
    // One that is dead is found out by a controller that hears, and by one that hears again, which
    // gives everybody a moment.
    assert_eq!(
        deaf_until(0, Some(2)),
        (Some((260, vec![2])), vec![(1000, 2)])
    );
    let late = deaf_until(1_800, Some(2));
    assert_eq!(late, (Some((2050, vec![2])), vec![(2050, 2)]));
}

#[test]
fn a_broker_may_stop_when_everybody_knows_what_it_handed_over() {
    let image = with_topic(&cluster(&[1, 2]), 1, "t", vec![partition(&[1, 2], &[1, 2])]);
    let mut sessions = sessions();
    sessions.step(NOW);
    let stop = |image: &Image| Heartbeat {
        wants_shutdown: true,
        ..beat(image, 1)
    };
    sessions.heard(b(2), BrokerEpoch(2), image.version(), NOW);
    let decision = heartbeat(&image, &mut sessions, &stop(&image), NOW);
    let reply = decision.reply.unwrap();
    assert!(reply.shutting_down && !reply.should_stop);
    let image = after(&image, decision.records);
    assert_eq!(image.partition(pid(1, 0)).unwrap().leader, Some(b(2)));
    // Broker 2 has not seen it yet.
    assert!(
        !heartbeat(&image, &mut sessions, &stop(&image), NOW)
            .reply
            .unwrap()
            .should_stop
    );
    sessions.heard(b(2), BrokerEpoch(2), image.version(), NOW);
    let decision = heartbeat(&image, &mut sessions, &stop(&image), NOW);
    assert!(decision.reply.unwrap().should_stop);
    assert!(after(&image, decision.records).broker(b(1)).unwrap().fenced);
}

#[test]
fn directories_are_recorded_and_fail() {
    let two = Broker {
        directories: vec![dir(1), dir(11)],
        ..broker(1, 9)
    };
    let image = after(&cluster(&[2]), vec![Record::RegisterBroker(two)]);
    let mut held = partition(&[1, 2], &[1, 2]);
    held.directories[0] = UNASSIGNED_DIRECTORY;
    let image = with_topic(&image, 1, "t", vec![held.clone(), held]);
    let assigned = [
        (pid(1, 0), dir(11)),
        (pid(1, 7), dir(1)),
        (pid(9, 0), dir(1)),
    ];
    let decision = assign_directories(&image, b(1), BrokerEpoch(9), &assigned);
    let codes = decision.reply.unwrap();
    let unknown = [
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::UnknownTopicId,
    ];
    assert_eq!(codes, [ErrorCode::None, unknown[0], unknown[1]]);
    let image = after(&image, decision.records);
    assert_eq!(
        image.partition(pid(1, 0)).unwrap().directory(b(1)),
        Some(dir(11))
    );
    let failed = directory_failed(&image, b(1), BrokerEpoch(9), &[dir(11)]);
    let image = after(&image, failed.records);
    assert_eq!(image.partition(pid(1, 0)).unwrap().isr, ids(&[2]));
    assert_eq!(image.partition(pid(1, 1)).unwrap().isr, ids(&[1, 2]));
}

#[test]
fn producer_ids_come_in_blocks() {
    let image = cluster(&[1]);
    let block = |image: &Image| allocate_producer_ids(image, b(1), BrokerEpoch(1));
    assert_eq!(block(&image).reply, Ok(0..1000));
    let image = after(&image, block(&image).records);
    assert_eq!(block(&image).reply, Ok(1000..2000));
    let stale = allocate_producer_ids(&image, b(1), BrokerEpoch(2))
        .reply
        .unwrap_err();
    assert_eq!(
        stale.message.as_deref(),
        Some("Expected broker epoch 1, but got broker epoch 2")
    );
}

#[test]
fn features_change_as_far_as_all_nodes_can() {
    let formed = bootstrap(
        &Image::default(),
        "test",
        &[("metadata.version".into(), 29)],
        &[],
    );
    let image = after(&Image::default(), formed.records);
    let image = after(&image, vec![Record::RegisterBroker(broker(1, 9))]);
    assert_eq!(bootstrap(&image, "test", &[], &[]).records, []);
    let other = bootstrap(&image, "other", &[], &[]).reply.unwrap_err();
    assert_eq!(other.code, ErrorCode::InconsistentClusterId);
    let check = |name: &str, level, kind, why: &str| {
        let update = FeatureUpdate {
            name: name.into(),
            level,
            kind,
        };
        let decision = update_features(&image, &[update], false);
        match decision.reply {
            Ok(()) => {
                assert_eq!(why, "");
                assert_eq!(after(&image, decision.records).feature(name), level);
            }
            Err(refusal) => {
                let message = refusal.message.unwrap();
                assert!(!why.is_empty() && message.contains(why), "{message}");
            }
        }
    };
    let name = "metadata.version";
    let (up, down) = (UpgradeKind::Upgrade, UpgradeKind::SafeDowngrade);
    check(name, 30, up, "");
    check(name, 31, up, "only supports versions 7-30");
    check(
        name,
        28,
        up,
        "Can't downgrade the version of this feature without",
    );
    check(
        name,
        28,
        down,
        "Refusing to perform the requested downgrade",
    );
    check(name, 30, down, "Can't downgrade to a newer version.");
    check("eligible.leader.replicas.version", 1, up, "");
    check("share.version", 1, up, "only supports versions 0-0");
    check(
        "no.such",
        1,
        up,
        "Invalid update version 1 for feature no.such. Local controller does",
    );
}
