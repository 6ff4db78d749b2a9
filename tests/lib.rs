//! Tests of the whole tree and of whole clusters; see the files beside this one.
