//! The shipped binaries on the simulators, end to end.
