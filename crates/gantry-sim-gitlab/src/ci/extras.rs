//! Keywords that change nothing about how a job runs, and something about what is shown of it or
//! when it may start.

use std::fmt::Write as _;

use regex::Regex;

use super::field::Field;
use super::inputs;
use super::model::CiJobInput;
use super::node::Value;
use super::problem::Report;

const RELEASE: &[&str] =
    &["tag_name", "tag_message", "name", "description", "ref", "milestones", "released_at", "assets"];
const ASSETS: &[&str] = &["links"];
const LINK: &[&str] = &["name", "url", "filepath", "link_type"];
const PAGES: &[&str] = &["publish", "path_prefix", "expire_in"];

/// What GitLab Pages publishes if nothing else is said.
const PUBLISHED: &str = "public";

const NOTHING_IS_PUBLISHED: &str = "publishes nothing here: there are no Pages; the directory is an artifact";

/// The job whose name alone makes it one of GitLab Pages.
const PAGES_JOB: &str = "pages";

/// What is shown of a job, and what it waits for.
#[derive(Clone, Debug, Default)]
pub(super) struct Extras {
    pub(super) resource_group: Option<String>,
    pub(super) coverage: Option<String>,
    pub(super) release: Option<String>,
    pub(super) manual_confirmation: Option<String>,
    pub(super) inputs: Vec<CiJobInput>,
    /// The directory that Pages would publish, which is an artifact without being named as one.
    pub(super) published: Option<String>,
}

/// Reads them.
pub(super) fn read(name: &str, field: &Field<'_>, report: &mut Report) -> Extras {
    Extras {
        resource_group: field.get("resource_group").and_then(|group| {
            group.plain(report).or_else(|| {
                group.expected(report, "a string");
                None
            })
        }),
        coverage: field.get("coverage").and_then(|pattern| coverage(&pattern, report)),
        release: field.get("release").and_then(|release| read_release(&release, report)),
        manual_confirmation: field.get("manual_confirmation").and_then(|text| text.text(report)),
        inputs: field.get("inputs").map(|inputs| inputs::of_job(&inputs, report)).unwrap_or_default(),
        published: published(name, field, report),
    }
}

/// A pattern between slashes, as Ruby's; the part that this machine's engine knows.
fn coverage(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let text = field.text(report)?;
    let Some(inner) = text.strip_prefix('/').and_then(|text| text.strip_suffix('/')).filter(|text| !text.is_empty())
    else {
        field.problem(report, "config must be a regular expression between slashes");
        return None;
    };
    if Regex::new(inner).is_err() {
        field.warning(report, "is ignored here: the pattern has something that cannot be searched for here");
        return None;
    }
    Some(inner.to_owned())
}

fn read_release(field: &Field<'_>, report: &mut Report) -> Option<String> {
    field.map_of(report, RELEASE)?;
    if let Some(assets) = field.get("assets") {
        assets.map_of(report, ASSETS);
        for link in assets.get("links").iter().flat_map(Field::items) {
            link.map_of(report, LINK);
        }
    }
    let Some(tag) = field.get("tag_name") else {
        field.problem(report, "config should have a `tag_name`");
        return None;
    };
    if !field.has("description") {
        field.problem(report, "config should have a `description`");
    }
    let mut shown = tag.text(report)?;
    for key in ["name", "ref", "tag_message", "milestones", "released_at"] {
        let Some(value) = field.get(key) else { continue };
        let _ = write!(shown, ", {} {}", key.replace('_', " "), value.node.inline());
    }
    let links = field.get("assets").and_then(|assets| assets.get("links")).map_or(0, |links| links.items().count());
    if links > 0 {
        let _ = write!(shown, ", {links} {}", if links == 1 { "link" } else { "links" });
    }
    field.warning(report, &format!("makes no release here; it would be of the tag {shown}"));
    Some(shown)
}

fn published(name: &str, field: &Field<'_>, report: &mut Report) -> Option<String> {
    let top = field.get("publish");
    if let Some(ignored) = &top {
        ignored.warning(report, "publishes nothing here: there are no Pages");
    }
    let top = top.and_then(|publish| publish.text(report));
    let Some(pages) = field.get("pages") else {
        if name != PAGES_JOB || field.has("trigger") {
            return None;
        }
        if top.is_none() {
            field.warning(report, NOTHING_IS_PUBLISHED);
        }
        return top.or_else(|| Some(PUBLISHED.to_owned()));
    };
    if let Value::Bool(is_on, _) = pages.node.value {
        if is_on {
            pages.warning(report, NOTHING_IS_PUBLISHED);
        }
        return is_on.then(|| top.unwrap_or_else(|| PUBLISHED.to_owned()));
    }
    pages.map_of(report, PAGES)?;
    for key in ["path_prefix", "expire_in"] {
        if let Some(ignored) = pages.get(key) {
            ignored.warning(report, "has no effect here: there are no Pages");
        }
    }
    pages.warning(report, NOTHING_IS_PUBLISHED);
    let publish = pages.get("publish").and_then(|publish| publish.text(report));
    publish.or(top).or_else(|| Some(PUBLISHED.to_owned()))
}
