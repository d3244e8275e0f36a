//! Rules about objects: defaults that are filled in at creation and what is refused. Pure; the
//! store is not looked at (what depends on other objects is admission, in `api::admission`).

pub(crate) mod names;
pub(crate) mod pod;
pub(crate) mod pod_defaults;
pub(crate) mod pod_fields;
pub(crate) mod quantity;
pub(crate) mod simple;

/// One reason why an object is not valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cause {
    /// `FieldValueRequired`, `FieldValueInvalid`, …
    pub(crate) reason: &'static str,
    pub(crate) field: String,
    /// Without the field; the message of the whole status joins both.
    pub(crate) message: String,
}

/// Collects what is wrong with an object.
#[derive(Debug, Default)]
pub(crate) struct Problems(pub(crate) Vec<Cause>);

impl Problems {
    pub(crate) fn required(&mut self, field: impl Into<String>, detail: &str) {
        let message = if detail.is_empty() { "Required value".to_owned() } else { format!("Required value: {detail}") };
        self.0.push(Cause { reason: "FieldValueRequired", field: field.into(), message });
    }

    pub(crate) fn invalid(&mut self, field: impl Into<String>, value: &serde_json::Value, detail: &str) {
        let message = format!("Invalid value: {value}: {detail}");
        self.0.push(Cause { reason: "FieldValueInvalid", field: field.into(), message });
    }

    pub(crate) fn duplicate(&mut self, field: impl Into<String>, value: &str) {
        let message = format!("Duplicate value: {value:?}");
        self.0.push(Cause { reason: "FieldValueDuplicate", field: field.into(), message });
    }

    pub(crate) fn not_found(&mut self, field: impl Into<String>, value: &str) {
        self.0.push(Cause {
            reason: "FieldValueNotFound",
            field: field.into(),
            message: format!("Not found: {value:?}"),
        });
    }

    pub(crate) fn unsupported(&mut self, field: impl Into<String>, value: &str, supported: &[&str]) {
        let list: Vec<String> = supported.iter().map(|one| format!("{one:?}")).collect();
        let message = format!("Unsupported value: {value:?}: supported values: {}", list.join(", "));
        self.0.push(Cause { reason: "FieldValueNotSupported", field: field.into(), message });
    }

    pub(crate) fn forbidden(&mut self, field: impl Into<String>, detail: &str) {
        let message = format!("Forbidden: {detail}");
        self.0.push(Cause { reason: "FieldValueForbidden", field: field.into(), message });
    }
}
