//! What the end-to-end tests are made of: the shipped binaries, started as their users would, and a look at what they do.
