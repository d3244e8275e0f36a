//! What the reader of `.gitlab-ci.yml` asks about the repository at a pipeline's commit, and about
//! what stands for other projects. Blocks: git and the file system answer.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;

use crate::archive;
use crate::ci::{FileLookup, Repository};
use crate::copies::Copies;
use crate::limits;
use crate::repo::{Checkout, Repo, Revision};

/// A repository at a commit; git is asked at most once for each thing.
pub(crate) struct Tree<'a> {
    repo: &'a Repo,
    revision: &'a Revision,
    copies: &'a Copies,
    /// The archives of jobs of the parent pipeline.
    archives: &'a HashMap<String, PathBuf>,
    paths: OnceCell<Rc<[String]>>,
    changed: RefCell<HashMap<String, Option<Rc<[String]>>>>,
}

impl<'a> Tree<'a> {
    pub(crate) fn new(checkout: &'a Checkout, copies: &'a Copies, archives: &'a HashMap<String, PathBuf>) -> Self {
        let Checkout { repo, revision } = checkout;
        Self { repo, revision, copies, archives, paths: OnceCell::new(), changed: RefCell::default() }
    }
}

impl Repository for Tree<'_> {
    fn file(&self, path: &str) -> Option<String> {
        self.repo.file(&self.revision.sha, path)
    }

    fn paths(&self) -> Rc<[String]> {
        Rc::clone(self.paths.get_or_init(|| self.repo.paths(&self.revision.sha).into()))
    }

    fn changed(&self) -> Option<Rc<[String]>> {
        let before = self.revision.before.as_ref()?;
        let mut known = self.changed.borrow_mut();
        let changed =
            known.entry(before.clone()).or_insert_with(|| self.repo.changed(before, &self.revision.sha).map(Rc::from));
        changed.clone()
    }

    fn changed_since(&self, git_ref: &str) -> Option<Rc<[String]>> {
        let mut known = self.changed.borrow_mut();
        // No commit's id has a slash at its end, so a ref is never taken for one.
        let changed = known.entry(format!("{git_ref}/")).or_insert_with(|| {
            let since = self.repo.left(git_ref, &self.revision.sha)?;
            self.repo.changed(&since, &self.revision.sha).map(Rc::from)
        });
        changed.clone()
    }

    fn project_file(&self, project: &str, path: &str) -> FileLookup {
        self.copies.file(project, path)
    }

    fn project_paths(&self, project: &str) -> Option<Rc<[String]>> {
        self.copies.paths(project)
    }

    fn remote_file(&self, url: &str) -> FileLookup {
        self.copies.url(url)
    }

    fn artifact_file(&self, job: &str, path: &str) -> Option<String> {
        let archive = self.archives.get(job)?;
        String::from_utf8(archive::file(archive, path, limits::CI_FILE as u64)?).ok()
    }
}
