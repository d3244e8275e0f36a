//! `parallel`: how many instances of a job there are, and what each is called.

use indexmap::IndexMap;

use super::field::Field;
use super::model::{CiNode, CiVariable};
use super::node::Value;
use super::problem::Report;

/// How many instances a job may have; GitLab's limits.
const MIN_INSTANCES: i64 = 1;
const MAX_INSTANCES: i64 = 200;
const MAX_MATRIX: usize = 200;

/// How many variables one matrix entry may have; far above real use, it bounds the work for hostile
/// files.
const MAX_MATRIX_VARIABLES: usize = 50;

/// One instance of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Instance {
    /// What follows the job's name: nothing, ` 1/3`, or `: [a, b]`.
    pub(super) suffix: String,
    /// Which one it is; `None` for a job without `parallel`.
    pub(super) node: Option<CiNode>,
    /// The matrix variables.
    pub(super) variables: Vec<CiVariable>,
}

/// Reads `parallel`; a job without it, or with a wrong one, has one plain instance.
pub(super) fn read(field: Option<&Field<'_>>, report: &mut Report) -> Vec<Instance> {
    let instances = field.map(|field| match &field.node.value {
        Value::Map(_) => {
            field.map_of(report, &["matrix"]);
            if let Some(matrix) = field.get("matrix") {
                read_matrix(&matrix, report)
            } else {
                field.problem(report, "config should have `matrix`");
                Vec::new()
            }
        }
        _ => numbered(field, report),
    });
    instances.filter(|list| !list.is_empty()).unwrap_or_else(|| vec![Instance::default()])
}

fn numbered(field: &Field<'_>, report: &mut Report) -> Vec<Instance> {
    let total = field.integer(report, MIN_INSTANCES, MAX_INSTANCES).and_then(|total| u32::try_from(total).ok());
    let Some(total) = total else { return Vec::new() };
    (1..=total)
        .map(|index| Instance {
            suffix: format!(" {index}/{total}"),
            node: Some(CiNode { index, total }),
            variables: Vec::new(),
        })
        .collect()
}

fn read_matrix(field: &Field<'_>, report: &mut Report) -> Vec<Instance> {
    let combinations = combinations(field, report);
    if combinations.len() > MAX_MATRIX {
        field.problem(report, &format!("config generates too many jobs (maximum is {MAX_MATRIX})"));
        return Vec::new();
    }
    let total = u32::try_from(combinations.len()).unwrap_or(0);
    let mut instances: IndexMap<String, Instance> = IndexMap::new();
    for (index, variables) in (1..=total).zip(combinations) {
        let suffix = suffix(&variables);
        let instance = Instance { suffix: suffix.clone(), node: Some(CiNode { index, total }), variables };
        // As in GitLab: names are made of the values alone, and the last of a name wins.
        if instances.insert(suffix.clone(), instance).is_some() {
            field.warning(report, &format!("has the values{suffix} twice; the last ones win"));
        }
    }
    instances.into_values().collect()
}

/// Reads a matrix into its combinations, the first variable changing slowest. Stops just above the
/// limit.
pub(super) fn combinations(field: &Field<'_>, report: &mut Report) -> Vec<Vec<CiVariable>> {
    match field.list() {
        None => field.expected(report, "an array of hashes"),
        Some([]) => field.problem(report, "config can't be blank"),
        Some(_) => {}
    }
    let mut all: Vec<Vec<CiVariable>> = Vec::new();
    for item in field.items() {
        let Some(map) = item.map(report) else { continue };
        if map.len() > MAX_MATRIX_VARIABLES {
            item.problem(report, &format!("config should have at most {MAX_MATRIX_VARIABLES} variables"));
            continue;
        }
        let mut rows: Vec<Vec<CiVariable>> = vec![Vec::new()];
        for (key, entry) in map {
            let values = values(&Field::new(&entry.value, format!("{}:{key}", field.path)), report);
            rows = rows
                .iter()
                .flat_map(|row| values.iter().map(move |value| extended(row, key, value)))
                .take(MAX_MATRIX + 1)
                .collect();
        }
        all.extend(rows.into_iter().filter(|row| !row.is_empty()));
        if all.len() > MAX_MATRIX {
            break;
        }
    }
    all
}

/// What an instance with these matrix variables is called after the job's name.
pub(super) fn suffix(variables: &[CiVariable]) -> String {
    let values: Vec<&str> = variables.iter().map(|variable| variable.value.as_str()).collect();
    format!(": [{}]", values.join(", "))
}

/// Puts the values of a matrix job in place of each `$[[ matrix.NAME ]]`; the error is the name
/// that there is not.
pub(super) fn interpolate(text: &str, matrix: &[CiVariable]) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("$[[") {
        out.push_str(before);
        let inside = after.split_once("]]");
        let name = inside.and_then(|(inside, _)| inside.trim().strip_prefix("matrix."));
        let name = name.filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')));
        if let (Some(name), Some((_, tail))) = (name, inside) {
            let value = matrix.iter().find(|variable| variable.key == name).ok_or_else(|| name.to_owned())?;
            out.push_str(&value.value);
            rest = tail;
        } else {
            out.push_str("$[[");
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn extended(row: &[CiVariable], key: &str, value: &str) -> Vec<CiVariable> {
    let variable = CiVariable { key: key.to_owned(), value: value.to_owned(), expand: true, ..CiVariable::default() };
    row.iter().cloned().chain([variable]).collect()
}

fn values(field: &Field<'_>, report: &mut Report) -> Vec<String> {
    let single = std::slice::from_ref(field.node);
    let mut values = Vec::new();
    for node in field.list().unwrap_or(single).iter().take(MAX_MATRIX + 1) {
        let item = Field::new(node, field.path.clone());
        match item.alphanumeric(report) {
            Some(value) => values.push(value),
            None => item.expected(report, "a string, a number or an array of them"),
        }
    }
    if field.list().is_some_and(<[_]>::is_empty) {
        field.problem(report, "config can't be blank");
    }
    values
}
