//! Every message of Kafka 4.3, generated from `schema/`: one module a message, named after it.
//!
//! Struct and field names are the schema's, fields in snake case. `Default` gives the schema's
//! defaults. A field that may be null in some version is an `Option`. Texts and bytes are owned,
//! except in the requests of the data path (`ProduceRequest`, `FetchRequest`) and the request
//! header, which borrow from the frame.
//!
//! Reading checks that counts fit the bytes that are left; writing refuses a field that is set
//! in a version that does not have it, unless the schema calls it ignorable.

// Generated code is not linted: it is as long as the schema is, and alike in every message.
#![allow(clippy::all, clippy::too_many_lines)]

use bytes::Bytes;

use crate::CodecError;
use crate::message::reencode_as;

include!(concat!(env!("OUT_DIR"), "/messages.rs"));
