use proptest::prelude::*;

use super::*;
use crate::session::SessionPort;

const BINDING: TicketBinding<'_> =
    TicketBinding { pod: "runner-a-project-7-concurrent-0-k3v9q2xd", namespace: "ci", job_id: 42, fleet: "team" };

fn ticket() -> Ticket {
    Ticket {
        job_id: 42,
        job_token: "glcbt-64_secret".into(),
        project_id: 7,
        gitlab_url: "https://gitlab.example.com".to_owned(),
        ca_pem: Some("-----BEGIN CERTIFICATE-----".to_owned()),
        timeout_seconds: 3600,
        deadline_unix_ms: 1_790_000_000_000,
        failure_reasons: vec!["script_failure".to_owned(), "runner_system_failure".to_owned()],
        timestamps: true,
        debug_trace: false,
        session: None,
        cache_objects: Vec::new(),
    }
}

fn session() -> JobSession {
    let port = SessionPort { services: vec!["web".into()], number: 8080, name: String::new(), protocol: "http".into() };
    JobSession {
        id: "0a".into(),
        authorization: "w0rd".into(),
        directory: "/builds/a".into(),
        ports: vec![port],
        authority: Secret::default(),
    }
}

fn key() -> TicketKey {
    TicketKey::derive(&"hunter2".into())
}

fn open(text: &str) -> Result<Ticket, TicketError> {
    Ticket::open(text, &key(), &BINDING)
}

/// The form of sealed tickets: pods of this version live on under the next.
#[test]
fn golden_ticket() {
    let sealed = ticket().seal(&key(), &BINDING);
    insta::assert_snapshot!(sealed);
    assert_eq!(open(&sealed), Ok(ticket()));
}

#[test]
fn another_key_is_told_from_another_pod() {
    let sealed = ticket().seal(&key(), &BINDING);
    assert_eq!(Ticket::open(&sealed, &TicketKey::derive(&"other".into()), &BINDING), Err(TicketError::OtherKey));
    for other in [
        TicketBinding { pod: "runner-b", ..BINDING },
        TicketBinding { namespace: "c", ..BINDING },
        TicketBinding { job_id: 43, ..BINDING },
        TicketBinding { fleet: "other", ..BINDING },
        TicketBinding { pod: "", namespace: "runner-a-project-7-concurrent-0-k3v9q2xdci", ..BINDING },
    ] {
        assert_eq!(Ticket::open(&sealed, &key(), &other), Err(TicketError::Altered), "{other:?}");
    }
}

#[test]
fn what_is_no_ticket_says_so() {
    for text in ["", "g1.", "g1.AAAA", "g1.%%%", "hello", "{\"job_id\": 42}", "g1", &"x".repeat(100_000)] {
        assert_eq!(open(text), Err(TicketError::Malformed), "{text}");
    }
    let endless = format!("g1.{}", "A".repeat(LONGEST_TICKET + 1));
    assert_eq!(open(&endless), Err(TicketError::Malformed));
    assert_eq!(open("g2.AAAA"), Err(TicketError::Form { form: "g2".to_owned() }));
}

#[test]
fn a_ticket_for_another_job_than_its_binding_says_is_none() {
    let lying = Ticket { job_id: 1, ..ticket() }.seal(&key(), &BINDING);
    assert_eq!(open(&lying), Err(TicketError::Altered));
}

#[test]
fn fields_of_newer_versions_are_skipped_and_missing_ones_have_defaults() {
    let json = r#"{"job_id": 42, "job_token": "t", "gitlab_url": "u", "timeout_seconds": 1, "deadline_unix_ms": 2, "new": [1]}"#;
    let ticket: Ticket = serde_json::from_str(json).unwrap();
    assert_eq!((ticket.project_id, ticket.ca_pem, ticket.failure_reasons.len()), (0, None, 0));
    assert_eq!(ticket.session, None);
}

#[test]
fn nothing_shows_a_secret() {
    let sealed = ticket().seal(&key(), &BINDING);
    let mut texts = vec![format!("{:?} {:?}", ticket(), key()), sealed.clone()];
    for error in [open("x"), open("g9.x"), Ticket::open(&sealed, &TicketKey::derive(&"other".into()), &BINDING)] {
        let error = error.unwrap_err();
        texts.push(format!("{error} {error:?}"));
    }
    for text in texts {
        assert!(!text.contains("glcbt") && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_long_bundle_of_roots_is_left_out() {
    let mut long = ticket();
    long.ca_pem = Some("x".repeat(LONGEST_CA + 1));
    let sealed = long.seal(&key(), &BINDING);
    assert!(sealed.len() < LONGEST_TICKET);
    assert_eq!(open(&sealed).unwrap().ca_pem, None);
    long.ca_pem = Some("x".repeat(LONGEST_CA));
    assert!(long.seal(&key(), &BINDING).len() < LONGEST_TICKET);
}

#[test]
fn a_session_goes_with_the_job_unless_it_is_endless() {
    let mut ticket = Ticket { session: Some(session()), ..ticket() };
    assert_eq!(open(&ticket.seal(&key(), &BINDING)).as_ref(), Ok(&ticket));
    assert!(!format!("{ticket:?}").contains("w0rd"), "{ticket:?}");
    let many = vec![session().ports.remove(0); LONGEST_SESSION];
    ticket.session = Some(JobSession { ports: many, ..session() });
    let sealed = ticket.seal(&key(), &BINDING);
    assert_eq!(open(&sealed), Ok(Ticket { session: None, ..ticket }));
}

#[test]
fn objects_of_caches_go_with_the_job_unless_they_are_endless() {
    let object = |name: String| CacheObject { name, key: "k".into() };
    let mut ticket = Ticket { cache_objects: vec![object("ci/deps".into())], ..ticket() };
    assert_eq!(open(&ticket.seal(&key(), &BINDING)).as_ref(), Ok(&ticket));
    ticket.cache_objects = vec![object("ci/deps".into()), object("x".repeat(LONGEST_CACHES)), object("ci/more".into())];
    let sealed = ticket.seal(&key(), &BINDING);
    assert_eq!(open(&sealed), Ok(Ticket { cache_objects: vec![object("ci/deps".into())], ..ticket }));
}

proptest! {
    #[test]
    fn any_change_is_noticed(at in 0_usize..1000, with in any::<char>(), cut in 0_usize..1000) {
        let sealed = ticket().seal(&key(), &BINDING);
        let changed: String =
            sealed.chars().enumerate().map(|(index, c)| if index == at % sealed.len() { with } else { c }).collect();
        if changed != sealed {
            prop_assert!(open(&changed).is_err());
        }
        let cut = cut % sealed.len();
        prop_assert!(open(&sealed[..cut]).is_err());
        let longer = [sealed, with.to_string()].concat();
        prop_assert!(open(&longer).is_err());
    }

    #[test]
    fn what_is_sealed_opens_for_its_own_binding_and_no_other(
        pod in "[a-z0-9-]{1,20}", namespace in "[a-z]{1,9}", fleet in ".{0,12}", other in ".{0,12}", token in ".{0,40}",
    ) {
        let binding = TicketBinding { pod: &pod, namespace: &namespace, job_id: 42, fleet: &fleet };
        let ticket = Ticket { job_token: token.into(), ..ticket() };
        let sealed = ticket.seal(&key(), &binding);
        prop_assert_eq!(Ticket::open(&sealed, &key(), &binding), Ok(ticket));
        if other != fleet {
            let others = TicketBinding { fleet: &other, ..binding };
            prop_assert_eq!(Ticket::open(&sealed, &key(), &others), Err(TicketError::Altered));
        }
    }
}
