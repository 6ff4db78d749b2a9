//! The table of API keys: which requests exist, in which versions, with which headers.

/// What the table says of one key.
struct ApiFacts {
    name: &'static str,
    valid: (i16, i16),
    stable: (i16, i16),
    flexible_from: i16,
    response_header_1_from: i16,
    on_broker: bool,
    on_controller: bool,
    cluster_action: bool,
    forwardable: bool,
}

include!(concat!(env!("OUT_DIR"), "/apis.rs"));

impl ApiKey {
    fn facts(self) -> &'static ApiFacts {
        &FACTS[self as usize]
    }

    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The name, `Produce` for instance.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// Lowest and highest version that can be decoded; `None` for keys Kafka 4 removed.
    pub fn valid_versions(self) -> Option<(i16, i16)> {
        some_versions(self.facts().valid)
    }

    /// Lowest and highest version that a Kafka 4.3 broker announces in ApiVersions: the stable ones,
    /// and Produce from 0, without which librdkafka would not talk to it (KAFKA-18659).
    pub fn announced_versions(self) -> Option<(i16, i16)> {
        let (low, high) = some_versions(self.facts().stable)?;
        Some((if self == ApiKey::Produce { 0 } else { low }, high))
    }

    /// Lowest and highest version that Kafka 4.3 serves.
    pub fn stable_versions(self) -> Option<(i16, i16)> {
        some_versions(self.facts().stable)
    }

    /// The first flexible version; `i16::MAX` if there is none.
    pub fn flexible_from(self) -> i16 {
        self.facts().flexible_from
    }

    /// The version of the request header that goes with a request of this version.
    pub fn request_header_version(self, version: i16) -> i16 {
        if version >= self.facts().flexible_from {
            2
        } else {
            1
        }
    }

    /// The version of the response header that goes with a response of this version.
    pub fn response_header_version(self, version: i16) -> i16 {
        i16::from(version >= self.facts().response_header_1_from)
    }

    /// Whether Kafka serves it on broker listeners.
    pub fn on_broker(self) -> bool {
        self.facts().on_broker
    }

    /// Whether Kafka serves it on controller listeners.
    pub fn on_controller(self) -> bool {
        self.facts().on_controller
    }

    /// Whether it needs the right to act for the cluster.
    pub fn is_cluster_action(self) -> bool {
        self.facts().cluster_action
    }

    /// Whether a Kafka broker forwards it to the controller.
    pub fn is_forwardable(self) -> bool {
        self.facts().forwardable
    }
}

fn some_versions(versions: (i16, i16)) -> Option<(i16, i16)> {
    (versions.0 <= versions.1).then_some(versions)
}

/// A number that is no API key of Kafka 4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown API key {0}")]
pub struct UnknownApiKey(pub i16);

impl TryFrom<i16> for ApiKey {
    type Error = UnknownApiKey;

    fn try_from(code: i16) -> Result<ApiKey, UnknownApiKey> {
        let place = usize::try_from(code).map_err(|_| UnknownApiKey(code))?;
        ApiKey::ALL.get(place).copied().ok_or(UnknownApiKey(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_facts_stand_in_the_order_of_the_numbers() {
        assert_eq!(ApiKey::ALL.len(), FACTS.len());
        for (place, key) in ApiKey::ALL.iter().enumerate() {
            assert_eq!(key.code() as usize, place);
            assert_eq!(ApiKey::try_from(key.code()), Ok(*key));
        }
        assert!(ApiKey::try_from(-1).is_err());
        assert!(ApiKey::try_from(93).is_err());
        assert_eq!(ApiKey::DescribeCluster.name(), "DescribeCluster");
    }

    #[test]
    fn headers_follow_the_versions() {
        assert_eq!(ApiKey::Produce.request_header_version(8), 1);
        assert_eq!(ApiKey::Produce.request_header_version(9), 2);
        assert_eq!(ApiKey::Produce.response_header_version(9), 1);
        assert_eq!(ApiKey::ApiVersions.request_header_version(3), 2);
        assert_eq!(ApiKey::ApiVersions.response_header_version(4), 0);
        assert_eq!(ApiKey::SaslHandshake.request_header_version(1), 1);
        assert_eq!(ApiKey::Produce.announced_versions(), Some((0, 13)));
        assert_eq!(ApiKey::InitProducerId.announced_versions(), Some((0, 5)));
        assert_eq!(ApiKey::LeaderAndIsr.announced_versions(), None);
    }
}
