//! Everything about pods that the API server ever showed, to be searched for secrets at the end.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::kube::Kube;

/// Before a watch is asked for again.
const PAUSE: Duration = Duration::from_millis(200);

/// The watch.
const PODS: &str = "/api/v1/pods?watch=true";

/// Watches all pods as long as it lives.
#[derive(Debug)]
pub struct Recorder {
    seen: Rc<RefCell<Vec<u8>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Recorder {
    /// Begins to watch. Needs a `LocalSet`. Whether it could is seen by [`Recorder::bytes`].
    pub fn start(kube: &Kube) -> Self {
        let seen: Rc<RefCell<Vec<u8>>> = Rc::default();
        let (kept, kube) = (Rc::clone(&seen), kube.clone());
        let task = tokio::task::spawn_local(async move {
            // A watch that ends, as all do at times, begins again with all pods there are.
            loop {
                let _ = kube.stream(PODS, |piece| kept.borrow_mut().extend_from_slice(piece)).await;
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { seen, task }
    }

    /// Which of these texts some pod showed.
    pub fn found<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let seen = self.seen.borrow();
        let all = String::from_utf8_lossy(&seen);
        texts.into_iter().filter(|text| all.contains(*text)).map(str::to_owned).collect()
    }

    /// Watches no more.
    pub fn stop(&self) {
        self.task.abort();
    }

    /// How much was recorded: nothing would prove nothing.
    pub fn bytes(&self) -> usize {
        self.seen.borrow().len()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}
