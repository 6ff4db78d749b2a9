//! DescribeAcls (key 29), versions 1 to 3 (KIP-140).
//!
//! - 1: patterns (KIP-290); 2: flexible; 3: user resources (KIP-373).
//!
//! There is no authorizer yet, so the answer is what Kafka gives without one: SECURITY_DISABLED.

use millrace_model::ErrorCode;
use millrace_protocol::messages::describe_acls_request::DescribeAclsRequest;
use millrace_protocol::messages::describe_acls_response::DescribeAclsResponse;

use super::Context;

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (1, 3);

/// Says that there is no authorizer.
pub async fn handle(_context: &Context, _request: DescribeAclsRequest) -> DescribeAclsResponse {
    DescribeAclsResponse {
        error_code: ErrorCode::SecurityDisabled.code(),
        error_message: Some("No Authorizer is configured.".to_owned()),
        ..Default::default()
    }
}
