//! Clusters of real processes, killed, paused and cut off under load from stock clients. One file
//! for each scenario, named after what happens; `README.md` maps them to the checklist.

#[path = "cluster/all_brokers_killed_at_once.rs"]
mod all_brokers_killed_at_once;
#[path = "cluster/bit_flipped_in_a_sealed_segment.rs"]
mod bit_flipped_in_a_sealed_segment;
#[path = "cluster/bits_flipped_while_serving.rs"]
mod bits_flipped_while_serving;
#[path = "cluster/bits_rot_before_a_power_cut.rs"]
mod bits_rot_before_a_power_cut;
#[path = "cluster/broker_cut_off_from_the_others.rs"]
mod broker_cut_off_from_the_others;
#[path = "cluster/broker_stopped_for_ten_seconds.rs"]
mod broker_stopped_for_ten_seconds;
#[path = "cluster/controller_disks_wiped_one_after_the_other.rs"]
mod controller_disks_wiped_one_after_the_other;
#[path = "cluster/controller_killed_while_acks_all.rs"]
mod controller_killed_while_acks_all;
#[path = "cluster/coordinator_killed.rs"]
mod coordinator_killed;
#[path = "cluster/disk_full.rs"]
mod disk_full;
#[path = "cluster/durability_changed_under_faults.rs"]
mod durability_changed_under_faults;
#[path = "cluster/fetch_from_a_follower_that_lags.rs"]
mod fetch_from_a_follower_that_lags;
#[path = "cluster/follower_disk_wiped.rs"]
mod follower_disk_wiped;
#[path = "cluster/follower_killed_while_acks_all.rs"]
mod follower_killed_while_acks_all;
#[path = "cluster/follower_misses_several_epochs.rs"]
mod follower_misses_several_epochs;
#[path = "cluster/lag_of_a_group_away_from_its_coordinator.rs"]
mod lag_of_a_group_away_from_its_coordinator;
#[path = "cluster/last_replica_standing.rs"]
mod last_replica_standing;
#[path = "cluster/leader_killed_while_acks_all.rs"]
mod leader_killed_while_acks_all;
#[path = "cluster/leader_killed_while_acks_one.rs"]
mod leader_killed_while_acks_one;
#[path = "cluster/leader_that_is_controller_killed.rs"]
mod leader_that_is_controller_killed;
#[path = "cluster/link_between_two_brokers_flaps.rs"]
mod link_between_two_brokers_flaps;
#[path = "cluster/link_cut_one_way.rs"]
mod link_cut_one_way;
#[path = "cluster/log_directory_failed.rs"]
mod log_directory_failed;
#[path = "cluster/metadata_file_corrupted.rs"]
mod metadata_file_corrupted;
#[path = "cluster/min_insync_replicas_changed_under_faults.rs"]
mod min_insync_replicas_changed_under_faults;
#[path = "cluster/partitions_reassigned.rs"]
mod partitions_reassigned;
#[path = "cluster/producers_quicker_than_their_topic.rs"]
mod producers_quicker_than_their_topic;
#[path = "cluster/quorum_lost_and_regained.rs"]
mod quorum_lost_and_regained;
#[path = "cluster/replicas_moved_between_directories.rs"]
mod replicas_moved_between_directories;
#[path = "cluster/rolling_restart.rs"]
mod rolling_restart;
#[path = "cluster/too_few_in_sync_replicas.rs"]
mod too_few_in_sync_replicas;
#[path = "cluster/topic_deleted_and_made_anew.rs"]
mod topic_deleted_and_made_anew;
#[path = "cluster/two_fast_leader_changes.rs"]
mod two_fast_leader_changes;
#[path = "cluster/unclean_election_ordered.rs"]
mod unclean_election_ordered;
