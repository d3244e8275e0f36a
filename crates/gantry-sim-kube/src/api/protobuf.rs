//! Reading the protobuf bodies that `kubectl create`, `auth` and `delete` send for a few built-in types. Field numbers
//! are those of the published Kubernetes API (`generated.proto`); other types are refused, and answers are always JSON.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

/// First bytes of every Kubernetes protobuf body.
const MAGIC: &[u8] = b"k8s\0";
/// Deepest nesting of messages that is followed.
const DEPTH: usize = 16;

/// What a field holds.
#[derive(Clone, Copy)]
enum Type {
    Text,
    Flag,
    Number,
    Message(Schema),
    Texts,
    Messages(Schema),
    /// A map from text to text, or to bytes, or to quantities.
    TextMap,
    BytesMap,
    AmountMap,
    /// A number or a text.
    Either,
}

use Type::{AmountMap, BytesMap, Either, Flag, Message, Messages, Number, Text, TextMap, Texts};

/// Fields by number.
type Schema = &'static [(u64, &'static str, Type)];

const OWNER: Schema = &[
    (1, "kind", Text),
    (3, "name", Text),
    (4, "uid", Text),
    (5, "apiVersion", Text),
    (6, "controller", Flag),
    (7, "blockOwnerDeletion", Flag),
];
const META: Schema = &[
    (1, "name", Text),
    (2, "generateName", Text),
    (3, "namespace", Text),
    (5, "uid", Text),
    (6, "resourceVersion", Text),
    (11, "labels", TextMap),
    (12, "annotations", TextMap),
    (13, "ownerReferences", Messages(OWNER)),
    (14, "finalizers", Texts),
];
const NAME: Schema = &[(1, "name", Text)];
const RULE: Schema = &[
    (1, "verbs", Texts),
    (2, "apiGroups", Texts),
    (3, "resources", Texts),
    (4, "resourceNames", Texts),
    (5, "nonResourceURLs", Texts),
];
const SUBJECT: Schema = &[(1, "kind", Text), (2, "apiGroup", Text), (3, "name", Text), (4, "namespace", Text)];
const ROLE_REF: Schema = &[(1, "apiGroup", Text), (2, "kind", Text), (3, "name", Text)];
const BOUND: Schema = &[(1, "kind", Text), (2, "apiVersion", Text), (3, "name", Text), (4, "uid", Text)];
const RESOURCE_WISH: Schema = &[
    (1, "namespace", Text),
    (2, "verb", Text),
    (3, "group", Text),
    (4, "version", Text),
    (5, "resource", Text),
    (6, "subresource", Text),
    (7, "name", Text),
];
const PATH_WISH: Schema = &[(1, "path", Text), (2, "verb", Text)];
const DELETE: Schema = &[
    (1, "gracePeriodSeconds", Number),
    (2, "preconditions", Message(&[(1, "uid", Text), (2, "resourceVersion", Text)])),
    (3, "orphanDependents", Flag),
    (4, "propagationPolicy", Text),
    (5, "dryRun", Texts),
];

const SELECTOR: Schema = &[
    (1, "matchLabels", TextMap),
    (2, "matchExpressions", Messages(&[(1, "key", Text), (2, "operator", Text), (3, "values", Texts)])),
];
const AMOUNTS: Schema = &[(1, "limits", AmountMap), (2, "requests", AmountMap)];
/// Of a container as `kubectl create deployment` makes one.
const CONTAINER: Schema = &[
    (1, "name", Text),
    (2, "image", Text),
    (3, "command", Texts),
    (4, "args", Texts),
    (5, "workingDir", Text),
    (6, "ports", Messages(&[(1, "name", Text), (3, "containerPort", Number), (4, "protocol", Text)])),
    (7, "env", Messages(&[(1, "name", Text), (2, "value", Text)])),
    (8, "resources", Message(AMOUNTS)),
    (14, "imagePullPolicy", Text),
];
const TEMPLATE: Schema = &[
    (1, "metadata", Message(META)),
    (2, "spec", Message(&[(2, "containers", Messages(CONTAINER)), (3, "restartPolicy", Text)])),
];
const QUOTA: Schema = &[
    (1, "hard", AmountMap),
    (2, "scopes", Texts),
    (
        3,
        "scopeSelector",
        Message(&[(
            1,
            "matchExpressions",
            Messages(&[(1, "scopeName", Text), (2, "operator", Text), (3, "values", Texts)]),
        )]),
    ),
];
const BUDGET: Schema = &[
    (1, "minAvailable", Either),
    (2, "selector", Message(SELECTOR)),
    (3, "maxUnavailable", Either),
    (4, "unhealthyPodEvictionPolicy", Text),
];

/// The types that can be read.
const TYPES: &[(&str, Schema)] = &[
    ("Namespace", &[(1, "metadata", Message(META))]),
    (
        "ServiceAccount",
        &[
            (1, "metadata", Message(META)),
            (3, "imagePullSecrets", Messages(NAME)),
            (4, "automountServiceAccountToken", Flag),
        ],
    ),
    (
        "ConfigMap",
        &[(1, "metadata", Message(META)), (2, "data", TextMap), (3, "binaryData", BytesMap), (4, "immutable", Flag)],
    ),
    (
        "Secret",
        &[
            (1, "metadata", Message(META)),
            (2, "data", BytesMap),
            (3, "type", Text),
            (4, "stringData", TextMap),
            (5, "immutable", Flag),
        ],
    ),
    ("Role", &[(1, "metadata", Message(META)), (2, "rules", Messages(RULE))]),
    ("ClusterRole", &[(1, "metadata", Message(META)), (2, "rules", Messages(RULE))]),
    ("RoleBinding", BINDING),
    ("ClusterRoleBinding", BINDING),
    (
        "TokenRequest",
        &[
            (1, "metadata", Message(META)),
            (
                2,
                "spec",
                Message(&[
                    (1, "audiences", Texts),
                    (3, "boundObjectRef", Message(BOUND)),
                    (4, "expirationSeconds", Number),
                ]),
            ),
        ],
    ),
    (
        "SelfSubjectAccessReview",
        &[
            (1, "metadata", Message(META)),
            (
                2,
                "spec",
                Message(&[
                    (1, "resourceAttributes", Message(RESOURCE_WISH)),
                    (2, "nonResourceAttributes", Message(PATH_WISH)),
                ]),
            ),
        ],
    ),
    ("SelfSubjectRulesReview", &[(1, "metadata", Message(META)), (2, "spec", Message(&[(1, "namespace", Text)]))]),
    ("SelfSubjectReview", &[(1, "metadata", Message(META))]),
    ("ResourceQuota", &[(1, "metadata", Message(META)), (2, "spec", Message(QUOTA))]),
    ("PodDisruptionBudget", &[(1, "metadata", Message(META)), (2, "spec", Message(BUDGET))]),
    (
        "PriorityClass",
        &[
            (1, "metadata", Message(META)),
            (2, "value", Number),
            (3, "globalDefault", Flag),
            (4, "description", Text),
            (5, "preemptionPolicy", Text),
        ],
    ),
    (
        "Deployment",
        &[
            (1, "metadata", Message(META)),
            (
                2,
                "spec",
                Message(&[
                    (1, "replicas", Number),
                    (2, "selector", Message(SELECTOR)),
                    (3, "template", Message(TEMPLATE)),
                ]),
            ),
        ],
    ),
    ("DeleteOptions", DELETE),
    ("Eviction", &[(1, "metadata", Message(META)), (2, "deleteOptions", Message(DELETE))]),
];
const BINDING: Schema =
    &[(1, "metadata", Message(META)), (2, "subjects", Messages(SUBJECT)), (3, "roleRef", Message(ROLE_REF))];

/// Reads a body; `None` when it is not one of these types, or broken.
pub(crate) fn read(body: &[u8]) -> Option<Value> {
    let mut kind = String::new();
    let mut version = String::new();
    let mut raw: &[u8] = &[];
    for field in Fields(body.strip_prefix(MAGIC)?) {
        match field? {
            (1, Wire::Bytes(bytes)) => {
                for field in Fields(bytes) {
                    match field? {
                        (1, Wire::Bytes(bytes)) => version = text(bytes)?,
                        (2, Wire::Bytes(bytes)) => kind = text(bytes)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let (_, schema) = TYPES.iter().find(|(name, _)| *name == kind)?;
    let mut object = message(raw, schema, DEPTH)?;
    object["kind"] = json!(kind);
    object["apiVersion"] = json!(version);
    Some(object)
}

/// A field as it is on the wire.
enum Wire<'b> {
    Number(u64),
    Bytes(&'b [u8]),
    /// Fixed-size numbers, which none of the types here has.
    Other,
}

/// The fields of a message, in order; `None` inside where the bytes are broken, and then the end.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: u64) -> Option<&'b [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }

    fn field(&mut self) -> Option<(u64, Wire<'b>)> {
        let key = self.number()?;
        let value = match key & 7 {
            0 => Wire::Number(self.number()?),
            1 => self.take(8).map(|_| Wire::Other)?,
            2 => {
                let length = self.number()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Wire::Other)?,
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

impl<'b> Iterator for Fields<'b> {
    type Item = Option<(u64, Wire<'b>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

fn message(bytes: &[u8], schema: Schema, depth: usize) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    let mut object = Map::new();
    for field in Fields(bytes) {
        let (number, wire) = field?;
        let Some((_, name, kind)) = schema.iter().find(|(known, ..)| *known == number) else { continue };
        let value = match (kind, wire) {
            // Texts are always written, empty ones too, and an empty one is an absent one.
            (Text, Wire::Bytes([])) => continue,
            (Text | Texts, Wire::Bytes(bytes)) => json!(text(bytes)?),
            (Flag, Wire::Number(number)) => json!(number != 0),
            // Negative numbers are written as their two's complement.
            (Number, Wire::Number(number)) => json!(number.cast_signed()),
            (Message(schema) | Messages(schema), Wire::Bytes(bytes)) => message(bytes, schema, depth)?,
            (TextMap, Wire::Bytes(bytes)) => {
                let (key, value) = entry(bytes)?;
                place(&mut object, name).insert(text(key)?, json!(text(value)?));
                continue;
            }
            (BytesMap, Wire::Bytes(bytes)) => {
                let (key, value) = entry(bytes)?;
                place(&mut object, name).insert(text(key)?, json!(BASE64_STANDARD.encode(value)));
                continue;
            }
            (AmountMap, Wire::Bytes(bytes)) => {
                let (key, value) = entry(bytes)?;
                let amount = message(value, &[(1, "amount", Text)], depth)?;
                place(&mut object, name).insert(text(key)?, amount["amount"].clone());
                continue;
            }
            (Either, Wire::Bytes(bytes)) => {
                let either = message(bytes, &[(1, "type", Number), (2, "number", Number), (3, "text", Text)], depth)?;
                let is_text = either["type"] == 1;
                either.get(if is_text { "text" } else { "number" }).cloned().unwrap_or_else(|| json!(0))
            }
            _ => return None,
        };
        if matches!(kind, Texts | Messages(_)) {
            let list = object.entry(*name).or_insert_with(|| json!([]));
            list.as_array_mut()?.push(value);
        } else {
            object.insert((*name).to_owned(), value);
        }
    }
    Some(Value::Object(object))
}

fn place<'m>(object: &'m mut Map<String, Value>, name: &str) -> &'m mut Map<String, Value> {
    crate::store::object::map_mut(object.entry(name).or_insert_with(|| json!({})), &[])
}

/// Key and value of a map's entry.
fn entry(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Bytes(bytes)) => key = bytes,
            (2, Wire::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    Some((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut field = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
        field.extend_from_slice(bytes);
        field
    }

    #[test]
    fn a_secret_is_read() {
        let meta = [field(1, b"s"), field(2, b""), field(11, &[field(1, b"a"), field(2, b"b")].concat())].concat();
        let data = [field(1, b"pw"), field(2, b"\xff")].concat();
        let secret = [field(1, &meta), field(2, &data), field(3, b"Opaque"), vec![5 << 3, 1]].concat();
        let kind = [field(1, b"v1"), field(2, b"Secret")].concat();
        let body = [MAGIC.to_vec(), field(1, &kind), field(2, &secret), field(3, b"")].concat();
        assert_eq!(
            read(&body).unwrap(),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "labels": {"a": "b"}},
                "data": {"pw": "/w=="}, "type": "Opaque", "immutable": true})
        );
        for length in 0..body.len() {
            // Broken bodies are refused or read as less, never a panic.
            let _ = read(&body[..length]);
        }
        assert_eq!(read(b"k8s\0\x0a\xff\xff"), None);
    }
}
