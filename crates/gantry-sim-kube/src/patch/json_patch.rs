//! JSON patch (RFC 6902).

use serde_json::Value;

/// Applies the operations in order; the error is a sentence for the client and leaves `target` half
/// changed, so callers work on a copy.
pub(crate) fn json_patch(target: &mut Value, patch: &Value) -> Result<(), String> {
    let operations = patch.as_array().ok_or("a JSON patch is a list of operations")?;
    for operation in operations {
        let text = |key: &str| {
            operation.get(key).and_then(Value::as_str).ok_or(format!("a JSON patch operation needs {key:?}"))
        };
        let value = || operation.get("value").cloned().ok_or("the operation needs a value".to_owned());
        let path = text("path")?;
        match text("op")? {
            "add" => add(target, path, value()?)?,
            "remove" => drop(remove(target, path)?),
            "replace" => {
                let place = target.pointer_mut(path).ok_or(missing("replace", path))?;
                *place = value()?;
            }
            "test" => {
                if target.pointer(path) != operation.get("value") {
                    return Err(format!("testing value {path} failed"));
                }
            }
            "move" => {
                let moved = remove(target, text("from")?)?;
                add(target, path, moved)?;
            }
            "copy" => {
                let from = text("from")?;
                let copied = target.pointer(from).cloned().ok_or(missing("copy", from))?;
                add(target, path, copied)?;
            }
            other => return Err(format!("unexpected kind of JSON patch operation: {other}")),
        }
    }
    Ok(())
}

fn missing(operation: &str, path: &str) -> String {
    format!("{operation} operation does not apply: doc is missing path: {path}: missing value")
}

/// Splits a pointer into the pointer of its parent and its last, unescaped token.
fn split(path: &str) -> Result<(&str, String), String> {
    let (parent, last) = path.rsplit_once('/').ok_or(format!("{path:?} is not a JSON pointer"))?;
    Ok((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn add(target: &mut Value, path: &str, value: Value) -> Result<(), String> {
    if path.is_empty() {
        *target = value;
        return Ok(());
    }
    let (parent, last) = split(path)?;
    match target.pointer_mut(parent) {
        Some(Value::Object(map)) => drop(map.insert(last, value)),
        Some(Value::Array(list)) if last == "-" => list.push(value),
        Some(Value::Array(list)) => match last.parse::<usize>() {
            Ok(index) if index <= list.len() => list.insert(index, value),
            _ => return Err(missing("add", path)),
        },
        _ => return Err(missing("add", path)),
    }
    Ok(())
}

fn remove(target: &mut Value, path: &str) -> Result<Value, String> {
    let (parent, last) = split(path)?;
    let removed = match target.pointer_mut(parent) {
        Some(Value::Object(map)) => map.remove(&last),
        Some(Value::Array(list)) => {
            last.parse::<usize>().ok().filter(|index| *index < list.len()).map(|index| list.remove(index))
        }
        _ => None,
    };
    removed.ok_or_else(|| missing("remove", path))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations_apply() {
        let mut object = json!({"metadata": {"labels": {"a/b": "1"}}, "l": [1, 3]});
        let patch = json!([
            {"op": "test", "path": "/metadata/labels/a~1b", "value": "1"},
            {"op": "replace", "path": "/metadata/labels/a~1b", "value": "2"},
            {"op": "add", "path": "/l/1", "value": 2},
            {"op": "add", "path": "/l/-", "value": 4},
            {"op": "remove", "path": "/l/0"},
            {"op": "copy", "from": "/l", "path": "/m"},
            {"op": "move", "from": "/m/0", "path": "/n"}
        ]);
        json_patch(&mut object, &patch).unwrap();
        assert_eq!(object, json!({"metadata": {"labels": {"a/b": "2"}}, "l": [2, 3, 4], "m": [3, 4], "n": 2}));
    }

    #[test]
    fn a_failed_test_stops() {
        let error = json_patch(&mut json!({"a": 1}), &json!([{"op": "test", "path": "/a", "value": 2}])).unwrap_err();
        assert_eq!(error, "testing value /a failed");
        assert!(json_patch(&mut json!({}), &json!([{"op": "remove", "path": "/x"}])).is_err());
    }
}
