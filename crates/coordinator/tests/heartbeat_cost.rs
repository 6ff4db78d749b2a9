//! A heartbeat of a consumer group's member that says nothing new: what it allocates does not grow
//! with the group.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]
// Counting allocations takes an allocator of our own.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use millrace_coordinator::group::{Call, Caller, Request, Response, Settings, Topic, Topics, View};
use millrace_coordinator::{Groups, Input, Now, Origin, ReplyTo, Shard};
use millrace_model::{Offset, Timestamp, TopicId, TopicName, Uuid};
use millrace_protocol::messages::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;

struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it came; only a number is kept beside.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.set(ALLOCATED.get() + layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One topic of sixteen partitions.
struct OneTopic(TopicName);

const ID: TopicId = TopicId(Uuid([1; 16]));

impl OneTopic {
    fn topic(&self) -> Topic {
        Topic {
            id: ID,
            partitions: 16,
        }
    }
}

impl Topics for OneTopic {
    fn version(&self) -> u64 {
        1
    }

    fn by_name(&self, name: &str) -> Option<Topic> {
        (name == self.0.as_str()).then(|| self.topic())
    }

    fn name_of(&self, id: TopicId) -> Option<TopicName> {
        (id == ID).then(|| self.0.clone())
    }

    fn racks_of(&self, _: TopicId, _: i32) -> Vec<Arc<str>> {
        Vec::new()
    }

    fn each(&self, visit: &mut dyn FnMut(&TopicName, Topic)) {
        visit(&self.0, self.topic());
    }
}

struct Broker {
    groups: Groups,
    topics: OneTopic,
    settings: Settings,
    now: i64,
    appended: i64,
}

impl Broker {
    fn beat(&mut self, request: ConsumerGroupHeartbeatRequest) -> (i16, i32) {
        let request = Request {
            caller: Caller {
                version: 1,
                ..Caller::default()
            },
            call: Call::ConsumerGroupHeartbeat(request),
        };
        let from = ReplyTo(1);
        let view = View {
            topics: &self.topics,
            settings: &self.settings,
        };
        let input = Input::Request { from, request };
        let now = Now {
            steady: Timestamp(self.now),
            wall: Timestamp(self.now),
        };
        let effects = self.groups.handle(input, now, view);
        for record in effects.records {
            let origin = Origin {
                offset: Offset(self.appended),
                producer: None,
            };
            self.appended += 1;
            self.groups.replay(record, origin);
        }
        match &effects.replies[0].1 {
            Response::ConsumerGroupHeartbeat(answer) => (answer.error_code, answer.member_epoch),
            other => panic!("{other:?}"),
        }
    }
}

fn heartbeat(member: usize, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: "group".to_owned(),
        member_id: format!("member-{member:0>4}"),
        member_epoch: epoch,
        ..Default::default()
    }
}

/// What a hundred heartbeats of one member allocate in a group of so many.
fn allocated_by_heartbeats(members: usize) -> usize {
    let mut broker = Broker {
        groups: Groups::default(),
        topics: OneTopic(TopicName::new("topic").unwrap()),
        settings: Settings::default(),
        now: 1_000_000,
        appended: 0,
    };
    for member in 0..members {
        let (code, _) = broker.beat(ConsumerGroupHeartbeatRequest {
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: Some(vec!["topic".to_owned()]),
            topic_partitions: Some(Vec::new()),
            ..heartbeat(member, 0)
        });
        assert_eq!(code, 0);
    }
    // The target of all of them, and this member's way to it: it owns nothing to give up.
    broker.now += 2_000;
    let (_, mut epoch) = broker.beat(heartbeat(0, 2));
    for _ in 0..2 {
        let owning_nothing = ConsumerGroupHeartbeatRequest {
            topic_partitions: Some(Vec::new()),
            ..heartbeat(0, epoch)
        };
        (_, epoch) = broker.beat(owning_nothing);
    }
    let requests: Vec<_> = (0..100).map(|_| heartbeat(0, epoch)).collect();
    let records = broker.appended;
    let before = ALLOCATED.get();
    for request in requests {
        broker.now += 10;
        assert_eq!(broker.beat(request), (0, epoch));
    }
    assert_eq!(broker.appended, records, "nothing is recorded");
    ALLOCATED.get() - before
}

#[test]
fn a_heartbeat_at_rest_allocates_the_same_in_a_large_group() {
    let small = allocated_by_heartbeats(2);
    let large = allocated_by_heartbeats(500);
    assert!(
        large <= small + 1_000,
        "{small} and {large} bytes for 100 heartbeats"
    );
    assert!(small < 100 * 1_500, "{small} bytes for 100 heartbeats");
}
