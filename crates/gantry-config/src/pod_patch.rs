//! The text of a patch for pods (`[[runners.kubernetes.pod_spec]]`): YAML or JSON, read and
//! checked, so that nothing but a pod that it does not fit can stop it later.

use std::fmt;

use serde_json::Value;

/// `patch_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PatchKind {
    /// `strategic`: Kubernetes' own merge patch, in which some lists are merged by key.
    #[default]
    Strategic,
    /// `merge`, RFC 7386.
    Merge,
    /// `json`, RFC 6902.
    Json,
}

impl fmt::Display for PatchKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strategic => "strategic",
            Self::Merge => "merge",
            Self::Json => "json",
        })
    }
}

/// A patch that can be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patch {
    /// An object, with Kubernetes' directives perhaps.
    Strategic(Value),
    /// An object.
    Merge(Value),
    /// Operations in order.
    Json(json_patch::Patch),
}

impl Patch {
    /// Reads a patch.
    ///
    /// # Errors
    /// The text is neither YAML nor JSON, or no patch of its kind: what is wrong, as a fragment of
    /// a sentence.
    pub fn parse(kind: PatchKind, text: &str) -> Result<Self, String> {
        let value: Value = serde_saphyr::from_str(text).map_err(|error| {
            let message = error.to_string();
            format!("is neither YAML nor JSON: {}", message.lines().next().unwrap_or_default())
        })?;
        if kind == PatchKind::Json {
            let operations = serde_json::from_value(value);
            return operations.map(Self::Json).map_err(|error| {
                format!("is not a list of operations, each with op, path and what belongs to it (RFC 6902): {error}")
            });
        }
        if !value.is_object() {
            return Err(format!(
                "is not an object with fields of a pod's spec, which a patch of the type {kind} has to be"
            ));
        }
        Ok(if kind == PatchKind::Merge { Self::Merge(value) } else { Self::Strategic(value) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_and_json_are_read() {
        let yaml = "hostUsers: false\ncontainers:\n  - name: build\n    resources: {limits: {nvidia.com/gpu: 1}}\n";
        let expected = json!({"hostUsers": false, "containers": [
            {"name": "build", "resources": {"limits": {"nvidia.com/gpu": 1}}},
        ]});
        assert_eq!(Patch::parse(PatchKind::Strategic, yaml), Ok(Patch::Strategic(expected)));
        assert_eq!(Patch::parse(PatchKind::Merge, "{\"a\": null}"), Ok(Patch::Merge(json!({"a": null}))));
        let operations = "- op: add\n  path: /tolerations\n  value: []\n";
        let Ok(Patch::Json(read)) = Patch::parse(PatchKind::Json, operations) else { panic!("no patch") };
        assert_eq!(read.0.len(), 1);
    }

    #[test]
    fn what_is_no_patch_is_refused() {
        let refused = |kind, text| Patch::parse(kind, text).unwrap_err();
        let errors = [
            refused(PatchKind::Strategic, "a: b: c"),
            refused(PatchKind::Strategic, ""),
            refused(PatchKind::Merge, "[1]"),
            refused(PatchKind::Json, "{}"),
            refused(PatchKind::Json, "[{\"op\": \"put\", \"path\": \"/a\"}]"),
        ];
        insta::assert_snapshot!(errors.join("\n"));
    }
}
