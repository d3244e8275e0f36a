//! Whole plans: from the text of a config and the JSON of a job to everything that will be done.
//! Pictures are in `tests/goldens`.

mod bench;
mod caches;
mod errors;
mod goldens;
mod making;
mod properties;
mod reference;
mod services;
