//! Everything about pods that the API server ever showed, to be searched for secrets at the end.

use std::cell::RefCell;
use std::rc::Rc;

use crate::kube::Kube;

/// Watches all pods as long as it lives.
#[derive(Debug)]
pub struct Recorder {
    seen: Rc<RefCell<Vec<u8>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Recorder {
    /// Begins to watch. Needs a `LocalSet`.
    ///
    /// # Errors
    /// Pods may not be watched.
    pub async fn start(kube: &Kube) -> anyhow::Result<Self> {
        let mut response = kube.stream("/api/v1/pods?watch=true").await?;
        let seen: Rc<RefCell<Vec<u8>>> = Rc::default();
        let kept = Rc::clone(&seen);
        let task = tokio::task::spawn_local(async move {
            while let Ok(Some(chunk)) = response.chunk().await {
                kept.borrow_mut().extend_from_slice(&chunk);
            }
        });
        Ok(Self { seen, task })
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
