//! What a relay gets, in which order, whoever writes the trace.

use gantry_core::Ending;

use super::*;

fn plan() -> TracePlan {
    TracePlan {
        head: String::new(),
        masks: Vec::new(),
        token_prefixes: Vec::new(),
        timestamps: false,
        sections: false,
        limit_bytes: 1 << 20,
        debug_trace: false,
    }
}

fn feed() -> Feed {
    Feed::new(HeadLog::new(&plan(), &[HeadLine::plain("Running with gantry")], Timestamp::UNIX_EPOCH))
}

/// Gives the relay all that waits for it.
async fn given(feed: &mut Feed, inputs: &mut mpsc::Receiver<Input>) -> Vec<Input> {
    while feed.is_pending() {
        feed.flush().await;
    }
    std::iter::from_fn(|| inputs.try_recv().ok()).collect()
}

/// The pieces put together as GitLab would have them. A piece that leaves a gap is no trace.
fn trace(inputs: &[Input]) -> String {
    let mut text = Vec::new();
    for input in inputs {
        if let Input::Trace { offset, bytes } = input {
            let offset = usize::try_from(*offset).unwrap();
            assert!(offset <= text.len(), "a gap before {offset}: {inputs:?}");
            text.truncate(offset);
            text.extend_from_slice(bytes);
        }
    }
    String::from_utf8(text).unwrap()
}

fn failed() -> Verdict {
    Ending::PodDeleted { pod: "p".to_owned() }.verdict()
}

#[tokio::test]
async fn what_is_said_before_the_relay_starts_is_not_lost() {
    let mut feed = feed();
    assert!(feed.say(&["Waiting for pod ci/p to be running".to_owned()]));
    let mut inputs = feed.start().unwrap();
    assert!(feed.say(&["it is pulled".to_owned()]));
    let text = trace(&given(&mut feed, &mut inputs).await);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("Running with gantry"), "{text}");
    assert_eq!(lines[2..], ["Waiting for pod ci/p to be running", "it is pulled"]);
    assert!(feed.start().is_none(), "a feed has one relay");
}

#[tokio::test]
async fn the_head_stands_still_once_the_agent_may_have_it() {
    let mut feed = feed();
    let head = feed.hand_over();
    assert!(!feed.say(&["too late".to_owned()]) && !feed.note(&[HeadLine::plain("too late")]));
    let mut inputs = feed.start().unwrap();
    assert_eq!(trace(&given(&mut feed, &mut inputs).await), head);
}

#[tokio::test]
async fn the_agents_trace_goes_on_where_the_head_has_ended() {
    let mut feed = feed();
    let mut inputs = feed.start().unwrap();
    let head = feed.hand_over();
    feed.agent_is_there();
    feed.agent_writes();
    assert!(feed.is_agents());
    let from = feed.follow_from();
    assert_eq!(from, head.len() as u64, "the head is known already");
    feed.trace(from, Bytes::from_static(b"make\n"));
    assert_eq!(trace(&given(&mut feed, &mut inputs).await), head.clone() + "make\n");
    assert_eq!(feed.head.text(), "", "nobody asks us for the head any more");
    // The relay needs a part again: the next connection begins there.
    feed.want(3);
    assert_eq!(feed.follow_from(), 3);
    assert_eq!(feed.follow_from(), head.len() as u64 + 5, "asked for once");
}

#[tokio::test]
async fn a_head_that_the_agent_has_sent_back_in_part_does_not_die_with_it() {
    let mut feed = feed();
    let head = feed.hand_over();
    feed.agent_is_there();
    feed.agent_writes();
    let mut inputs = feed.start().unwrap();
    feed.trace(0, Bytes::copy_from_slice(&head.as_bytes()[..5]));
    feed.end((&[], &failed()), true, &plan());
    assert_eq!(trace(&given(&mut feed, &mut inputs).await), head);
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_plan_leaves_the_trace_ours() {
    let mut feed = feed();
    let mut inputs = feed.start().unwrap();
    feed.agent_is_there();
    assert!(feed.say(&["while it is there".to_owned()]), "the head may still grow");
    let mut all = given(&mut feed, &mut inputs).await;
    assert!(!trace(&all).contains("while"), "and is not shown yet");
    feed.agent_is_gone();
    assert!(feed.say(&["after".to_owned()]));
    all.extend(given(&mut feed, &mut inputs).await);
    let text = trace(&all);
    assert!(text.ends_with("while it is there\nafter\n"), "{text:?}");
}

#[tokio::test]
async fn a_job_without_an_agent_ends_with_a_whole_trace_and_its_checksum() {
    let mut feed = feed();
    let mut inputs = feed.start().unwrap();
    let words = [HeadLine::warning("the node has vanished")];
    feed.end((&words, &failed()), false, &plan());
    let inputs = given(&mut feed, &mut inputs).await;
    let text = trace(&inputs);
    assert!(text.contains("WARNING: the node has vanished") && text.contains("ERROR: Job failed"), "{text}");
    let Some(Input::Closed(end)) = inputs.last() else { panic!("not closed: {inputs:?}") };
    assert_eq!(end.trace_bytes, text.len() as u64);
    assert_eq!(end.trace_crc32, Some(crc32fast::hash(text.as_bytes())));
}

/// Nobody here knows how the agent's trace goes on: only a last line can be appended, and nothing
/// may be waited for.
#[tokio::test]
async fn a_job_whose_agent_has_died_gets_a_last_line_and_the_relay_no_more() {
    let mut feed = Feed::of_agent();
    feed.begin_at(1000);
    let mut inputs = feed.start().unwrap();
    feed.end((&[], &failed()), true, &plan());
    let rest = given(&mut feed, &mut inputs).await;
    assert!(matches!(&rest[0], Input::Trace { offset: 1000, bytes } if bytes.is_empty()), "{rest:?}");
    let Some(Input::FinalLine { line, verdict }) = rest.last() else { panic!("no last line: {rest:?}") };
    assert!(line.starts_with(b"\n") && line.ends_with(b"\n") && !verdict.success);
    assert!(inputs.recv().await.is_none(), "the inputs are closed behind it");
}
