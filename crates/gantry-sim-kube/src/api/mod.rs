//! The API server: from an HTTP request to an answer. Each file does one thing with a request; `dispatch` decides which.

mod access;
pub(crate) mod admission;
mod breaker;
pub(crate) mod budgets;
mod call;
mod counters;
mod create;
mod delete;
mod discovery;
mod dispatch;
mod exec;
mod kubelet_link;
mod list;
mod log;
mod openapi;
mod partial;
mod patch;
pub(crate) mod policy;
mod protobuf;
mod remote;
mod representation;
mod request;
mod reviews;
mod scale;
mod sim;
pub(crate) mod status;
mod table;
mod token;
mod update;
mod watch;
mod websocket;
mod workload;

pub(crate) use counters::Counters;
pub(crate) use create::{add, bootstrap_namespace};
pub(crate) use delete::{Removal, begin_removal};
pub(crate) use dispatch::{AnswerLost, router};
