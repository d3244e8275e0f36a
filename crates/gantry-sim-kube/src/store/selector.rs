//! Label and field selectors: parsing the query text and matching objects. Field selectors know the
//! few fields that Kubernetes indexes; asking for another one is an error, as there.

use serde_json::Value;

use super::object;

/// A parsed label selector; all requirements must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LabelSelector(Vec<(String, Op)>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Op {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Missing,
}

impl LabelSelector {
    /// Reads `a=b,c!=d,e in (f,g),h notin (i),j,!k`. The error is a sentence for the client.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        split_outside_parentheses(text).into_iter().map(requirement).collect::<Result<_, _>>().map(Self)
    }

    /// Reads `matchLabels` and `matchExpressions` of an object's selector. An empty one selects
    /// everything.
    pub(crate) fn of(selector: &Value) -> Self {
        let labels = object::pairs(selector, &["matchLabels"]);
        let labels = labels.map(|(key, value)| (key.to_owned(), Op::In(vec![value.to_owned()])));
        let expressions = object::items(selector, &["matchExpressions"]).iter().map(|expression| {
            let values = object::items(expression, &["values"]).iter().filter_map(Value::as_str).map(str::to_owned);
            let op = match object::text(expression, &["operator"]) {
                "NotIn" => Op::NotIn(values.collect()),
                "Exists" => Op::Exists,
                "DoesNotExist" => Op::Missing,
                _ => Op::In(values.collect()),
            };
            (object::text(expression, &["key"]).to_owned(), op)
        });
        Self(labels.chain(expressions).collect())
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|(key, op)| {
            let value = object::at(object, &["metadata", "labels"]).and_then(|labels| labels.get(key)?.as_str());
            match op {
                Op::In(values) => value.is_some_and(|value| values.iter().any(|one| one == value)),
                Op::NotIn(values) => value.is_none_or(|value| values.iter().all(|one| one != value)),
                Op::Exists => value.is_some(),
                Op::Missing => value.is_none(),
            }
        })
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_u32, 0, Vec::new());
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn requirement(part: &str) -> Result<(String, Op), String> {
    if let Some(key) = part.strip_prefix('!') {
        return checked(key, Op::Missing, part);
    }
    for (sign, negative) in [("!=", true), ("==", false), ("=", false)] {
        if let Some((key, value)) = part.split_once(sign) {
            let values = vec![value.trim().to_owned()];
            return checked(key, if negative { Op::NotIn(values) } else { Op::In(values) }, part);
        }
    }
    let mut words = part.splitn(2, char::is_whitespace);
    let key = words.next().unwrap_or("");
    let Some(rest) = words.next() else { return checked(key, Op::Exists, part) };
    let rest = rest.trim();
    let set = |rest: &str| -> Option<Vec<String>> {
        let inner = rest.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(inner.split(',').map(|value| value.trim().to_owned()).collect())
    };
    if let Some(values) = rest.strip_prefix("notin").and_then(set) {
        return checked(key, Op::NotIn(values), part);
    }
    if let Some(values) = rest.strip_prefix("in").and_then(set) {
        return checked(key, Op::In(values), part);
    }
    Err(format!("unable to parse requirement: {part:?} is not a label requirement"))
}

fn checked(key: &str, op: Op, part: &str) -> Result<(String, Op), String> {
    let key = key.trim();
    let good = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte));
    if good {
        Ok((key.to_owned(), op))
    } else {
        Err(format!("unable to parse requirement: invalid label key in {part:?}"))
    }
}

/// A parsed field selector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FieldSelector(Vec<(Vec<String>, String, bool)>);

const POD_FIELDS: &[&str] = &[
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
];
const EVENT_FIELDS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

impl FieldSelector {
    /// Reads `metadata.name=x,status.phase!=Running` for a type. The error is a sentence for the
    /// client.
    pub(crate) fn parse(plural: &str, text: &str) -> Result<Self, String> {
        let extra: &[&str] = match plural {
            "pods" => POD_FIELDS,
            "events" => EVENT_FIELDS,
            "secrets" => &["type"],
            "namespaces" => &["status.phase"],
            "nodes" => &["spec.unschedulable"],
            _ => &[],
        };
        let mut requirements = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (field, value, equal) = if let Some((field, value)) = part.split_once("!=") {
                (field, value, false)
            } else if let Some((field, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
                (field, value, true)
            } else {
                return Err(format!("invalid selector: {text:?}; can't understand {part:?}"));
            };
            if !["metadata.name", "metadata.namespace"].contains(&field) && !extra.contains(&field) {
                return Err(format!("field label not supported: {field}"));
            }
            requirements.push((field.split('.').map(str::to_owned).collect(), value.to_owned(), equal));
        }
        Ok(Self(requirements))
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|(path, value, equal)| {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let found = match object::at(object, &path) {
                Some(Value::String(found)) => found.as_str(),
                Some(Value::Bool(true)) => "true",
                Some(Value::Bool(false)) => "false",
                // The indexed booleans are false when absent.
                _ if path.last().is_some_and(|last| ["unschedulable", "hostNetwork"].contains(last)) => "false",
                _ => "",
            };
            (found == value) == *equal
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(selector: &str) -> bool {
        let object = json!({"metadata": {"labels": {"app": "web", "gantry.dev/fleet": "f1"}}});
        LabelSelector::parse(selector).unwrap().matches(&object)
    }

    #[test]
    fn label_selectors_match() {
        for yes in ["", "app=web", "app==web", "app in (api, web)", "app", "!gone", "app!=api", "x notin (a)"] {
            assert!(labels(yes), "{yes}");
        }
        for yes in ["gantry.dev/fleet=f1,app in (web)", "other!=x"] {
            assert!(labels(yes), "{yes}");
        }
        for no in ["app=api", "!app", "gone", "app notin (web,x)", "app=web,gone", "gone in (web)"] {
            assert!(!labels(no), "{no}");
        }
    }

    #[test]
    fn bad_selectors_are_refused() {
        assert!(LabelSelector::parse("a b").is_err());
        assert!(LabelSelector::parse("=x").is_err());
        assert!(FieldSelector::parse("pods", "spec.color=red").is_err());
        assert!(FieldSelector::parse("pods", "status.phase").is_err());
    }

    #[test]
    fn field_selectors_match() {
        let pod = json!({"metadata": {"name": "x"}, "status": {"phase": "Running"}});
        let matches = |text| FieldSelector::parse("pods", text).unwrap().matches(&pod);
        assert!(matches("metadata.name=x,status.phase!=Failed"));
        assert!(matches("spec.nodeName="));
        assert!(!matches("spec.nodeName!="));
    }
}
