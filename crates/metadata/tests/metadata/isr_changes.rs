//! What a leader's request must be for the controller to grant it (rule 10).

use crate::common::*;
use millrace_metadata::decide::*;
use millrace_metadata::*;
use millrace_model::*;

/// Brokers 1 to 3 serve, 4 is fenced, 5 shuts down; the partition is led by 1.
fn image() -> Image {
    let image = cluster(&[1, 2, 3]);
    let fenced = Broker {
        fenced: true,
        ..broker(4, 40)
    };
    let stopping = Broker {
        shutting_down: true,
        ..broker(5, 50)
    };
    let records = vec![
        Record::RegisterBroker(fenced),
        Record::RegisterBroker(stopping),
    ];
    let partition = Partition {
        leader_epoch: LeaderEpoch(7),
        partition_epoch: PartitionEpoch(9),
        ..partition(&[1, 2, 3, 4, 5], &[1, 2])
    };
    with_topic(&after(&image, records), 1, "t", vec![partition])
}

fn members(members: &[(i32, i64)]) -> Vec<IsrMember> {
    let member = |(id, epoch): &(i32, i64)| IsrMember {
        broker: b(*id),
        epoch: BrokerEpoch(*epoch),
    };
    members.iter().map(member).collect()
}

fn request() -> IsrRequest {
    IsrRequest {
        broker: b(1),
        broker_epoch: BrokerEpoch(1),
        changes: vec![IsrChange {
            id: pid(1, 0),
            leader_epoch: LeaderEpoch(7),
            partition_epoch: PartitionEpoch(9),
            isr: members(&[(1, 1), (2, 2), (3, 3)]),
            recovery: Recovery::Recovered,
            confirms_fsync: false,
        }],
    }
}

fn check(refused: ErrorCode, spoil: impl FnOnce(&mut IsrRequest, &mut IsrChange)) {
    let mut request = request();
    let mut change = request.changes.remove(0);
    spoil(&mut request, &mut change);
    request.changes.push(change);
    let decision = alter_partitions(&image(), &request);
    assert_eq!(decision.records, [], "{request:?}");
    match decision.reply {
        Ok(answers) => assert_eq!(answers, [Err(refused)], "{request:?}"),
        Err(refusal) => assert_eq!(refusal.code, refused),
    }
}

#[test]
fn what_is_right_is_granted() {
    let image = image();
    let decision = alter_partitions(&image, &request());
    let granted = decision.reply.unwrap()[0].clone().unwrap();
    assert_eq!(granted.isr, ids(&[1, 2, 3]));
    assert_eq!(
        (
            granted.leader,
            granted.leader_epoch,
            granted.partition_epoch
        ),
        (Some(b(1)), LeaderEpoch(7), PartitionEpoch(10))
    );
    let image = after(&image, decision.records);
    assert_eq!(
        PartitionState::from(&**image.partition(pid(1, 0)).unwrap()),
        granted
    );
    // The same request again is old.
    let again = alter_partitions(&image, &request());
    assert_eq!(again.reply, Ok(vec![Err(ErrorCode::InvalidUpdateVersion)]));
}

#[test]
fn asking_for_the_isr_as_it_is_ends_what_was_asked_before() {
    let image = image();
    let before = image.partition(pid(1, 0)).unwrap().clone();
    let mut withdrawal = request();
    let stays = |member: &IsrMember| before.isr.contains(&member.broker);
    withdrawal.changes[0].isr.retain(stays);
    let decision = alter_partitions(&image, &withdrawal);
    let image = after(&image, decision.records);
    let now = image.partition(pid(1, 0)).unwrap();
    assert_eq!((&now.isr, now.leader), (&before.isr, before.leader));
    assert_eq!(now.partition_epoch, before.partition_epoch.next());
    let late = alter_partitions(&image, &request());
    assert_eq!(late.reply, Ok(vec![Err(ErrorCode::InvalidUpdateVersion)]));
}

#[test]
fn what_comes_under_other_epochs_is_refused() {
    check(ErrorCode::StaleBrokerEpoch, |request, _| {
        request.broker_epoch = BrokerEpoch(0)
    });
    check(ErrorCode::StaleBrokerEpoch, |request, _| {
        request.broker = b(9)
    });
    check(ErrorCode::FencedLeaderEpoch, |_, change| {
        change.leader_epoch = LeaderEpoch(6)
    });
    check(ErrorCode::NotController, |_, change| {
        change.leader_epoch = LeaderEpoch(8)
    });
    check(ErrorCode::InvalidUpdateVersion, |_, change| {
        change.partition_epoch = PartitionEpoch(8);
    });
    check(ErrorCode::NotController, |_, change| {
        change.partition_epoch = PartitionEpoch(10)
    });
    check(ErrorCode::InvalidRequest, |request, _| {
        (request.broker, request.broker_epoch) = (b(2), BrokerEpoch(2));
    });
    check(ErrorCode::UnknownTopicId, |_, change| change.id = pid(2, 0));
    check(ErrorCode::UnknownTopicOrPartition, |_, change| {
        change.id = pid(1, 1)
    });
}

#[test]
fn an_isr_that_cannot_be_is_refused() {
    let isr = |code, isr: &[(i32, i64)]| {
        let isr = members(isr);
        check(code, |_, change| change.isr = isr);
    };
    isr(ErrorCode::InvalidRequest, &[]);
    isr(ErrorCode::InvalidRequest, &[(2, 2)]);
    isr(ErrorCode::InvalidRequest, &[(1, 1), (1, 1)]);
    isr(ErrorCode::InvalidRequest, &[(1, 1), (6, 6)]);
    isr(ErrorCode::IneligibleReplica, &[(1, 1), (3, 2)]);
    isr(ErrorCode::IneligibleReplica, &[(1, 1), (2, 1)]);
    isr(ErrorCode::IneligibleReplica, &[(1, 1), (4, 40)]);
    isr(ErrorCode::IneligibleReplica, &[(1, 1), (5, 50)]);
    check(ErrorCode::InvalidRequest, |_, change| {
        change.recovery = Recovery::Recovering
    });
}

#[test]
fn fsync_counts_when_the_leader_confirms_it() {
    let image = image();
    let setting = |value: Durability| {
        let ops = vec![(
            "millrace.durability".to_owned(),
            ConfigOp::Set(value.to_string()),
        )];
        [(Resource::topic(&TopicName::new("t").unwrap()), ops)]
    };
    let change = |image: &Image, value| {
        after(
            image,
            alter_configs(image, &AnyConfig, &setting(value), false).records,
        )
    };
    let durability = |image: &Image| image.partition(pid(1, 0)).unwrap().durability;
    let confirm = |image: &Image| {
        let p = image.partition(pid(1, 0)).unwrap();
        let mut request = request();
        request.changes[0].confirms_fsync = true;
        request.changes[0].leader_epoch = p.leader_epoch;
        request.changes[0].partition_epoch = p.partition_epoch;
        after(image, alter_partitions(image, &request).records)
    };
    let image = change(&image, Durability::PageCache);
    assert_eq!(
        durability(&confirm(&image)),
        Durability::PageCache,
        "not configured"
    );
    let image = change(&image, Durability::Fsync);
    assert_eq!(durability(&image), Durability::PageCache);
    assert_eq!(durability(&confirm(&image)), Durability::Fsync);
}
