//! What must hold for a whole trace, however its input is cut.

use gantry_core::Secret;
use jiff::Timestamp;
use proptest::prelude::*;

use crate::stamping::HEADER;
use crate::{Options, RefusedMasks, Stream, Trace, default_token_prefixes};

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

fn options(masks: &[String], timestamps: bool) -> Options {
    Options {
        masks: masks.iter().map(|mask| Secret::new(mask.clone())).collect(),
        token_prefixes: default_token_prefixes(true, &[]),
        timestamps,
        limit: 0,
    }
}

/// Writes `text` in pieces that end at `cuts`, closes the trace, and checks what a trace says about
/// itself.
fn render(options: Options, text: &[u8], cuts: &[usize]) -> String {
    let mut out = Vec::new();
    let mut trace = Trace::new(options, "", &mut out);
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
    cuts.sort_unstable();
    let mut at = 0;
    for cut in cuts.into_iter().chain([text.len()]) {
        trace.write(Stream::JobOut, now(), &text[at..cut], &mut out);
        at = cut;
    }
    trace.close(now(), &mut out);
    assert_eq!((trace.len(), trace.crc32()), (out.len() as u64, crc32fast::hash(&out)));
    String::from_utf8(out).expect("a trace is valid UTF-8")
}

/// Every occurrence of every phrase replaced, by looking at the whole text.
fn oracle(masks: &[String], text: &str) -> String {
    let mut spans: Vec<(usize, usize)> = Vec::new();
    for mask in masks.iter().map(|mask| mask.trim()).filter(|mask| !mask.is_empty()) {
        for start in 0..text.len() {
            if text.as_bytes()[start..].starts_with(mask.as_bytes()) {
                spans.push((start, start + mask.len()));
            }
        }
    }
    spans.sort_unstable();
    let mut merged: Vec<(usize, usize)> = Vec::new();
    for (start, end) in spans {
        match merged.last_mut() {
            Some(last) if start < last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    let (mut out, mut at) = (String::new(), 0);
    for (start, end) in merged {
        out += &text[at..start];
        out += "[MASKED]";
        at = end;
    }
    out + &text[at..]
}

/// Takes headers and made-up newlines away.
fn without_stamps(stamped: &str) -> String {
    let mut text = String::new();
    for line in stamped.split_inclusive('\n') {
        let (header, rest) = line.split_at(HEADER);
        assert!(header.starts_with("1970-01-01T00:00:00.000000Z 01O"), "{header}");
        if header.ends_with('+') {
            assert_eq!(text.pop(), Some('\n'));
        }
        text += rest;
    }
    text
}

/// Few letters, so that phrases and their beginnings meet often.
fn phrases() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[abc]{1,6}|ab{1,3}ü|a{2,5}|[ab]{1,3}\n[ab]{1,2}|[b?=]{2,5}| ab ", 0..5)
}

/// Text made of phrases, their beginnings and ends, and what lies between.
fn text_of(phrases: Vec<String>) -> impl Strategy<Value = (Vec<String>, String)> {
    let mut parts =
        vec!["a".to_owned(), "b".to_owned(), "c".to_owned(), "x\n".to_owned(), "ü".to_owned(), "?".to_owned()];
    for phrase in &phrases {
        parts.push(phrase.trim().to_owned());
        let indices = phrase.char_indices().map(|(at, _)| at);
        parts.extend(indices.flat_map(|at| [phrase[..at].to_owned(), phrase[at..].to_owned()]));
    }
    let text = prop::collection::vec(prop::sample::select(parts), 0..40).prop_map(|parts| parts.concat());
    (Just(phrases), text)
}

fn masked_text() -> impl Strategy<Value = (Vec<String>, String)> {
    phrases().prop_flat_map(text_of)
}

/// Text that moves every stage, valid or not.
fn wild_text() -> impl Strategy<Value = Vec<u8>> {
    let parts: Vec<&[u8]> = vec![
        b"glpat-",
        b"gldt-",
        b"aB3._=-",
        b"?private_token=",
        b"&RSS_token=",
        b"&k=",
        b"?",
        b" ",
        b"\n",
        b"\r",
        b"\r\n",
        b"secret",
        b"sec",
        b"ret",
        b"\xe2\x82",
        b"\xac",
        b"\xff",
        "😀".as_bytes(),
        b"[MASKED]",
        b"\x1b[0K",
    ];
    prop::collection::vec(prop::sample::select(parts), 0..60).prop_map(|parts| parts.concat())
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(any::<usize>(), 0..12)
}

proptest! {
    #[test]
    fn masking_is_the_same_for_every_chunking((masks, text) in masked_text(), cuts in cuts()) {
        let shown = render(options(&masks, false), text.as_bytes(), &cuts);
        prop_assert_eq!(&shown, &oracle(&masks, &text));
        for mask in masks.iter().map(|mask| mask.trim()).filter(|mask| !mask.is_empty()) {
            prop_assert!(!shown.contains(mask), "{:?} is shown in {:?}", mask, shown);
        }
    }

    #[test]
    fn the_end_of_a_stage_decides((masks, text) in masked_text(), at in any::<prop::sample::Index>(), cuts in cuts()) {
        let boundaries: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let (first, second) = text.split_at(boundaries[at.index(boundaries.len())]);
        let (mut out, mut all) = (Vec::new(), String::new());
        let mut trace = Trace::new(options(&masks, false), "", &mut out);
        for stage in [first, second] {
            let cut = cuts.first().map_or(0, |cut| cut % (stage.len() + 1));
            trace.write(Stream::JobOut, now(), &stage.as_bytes()[..cut], &mut out);
            trace.write(Stream::JobOut, now(), &stage.as_bytes()[cut..], &mut out);
            trace.flush(now(), &mut out);
            all += &oracle(&masks, stage);
            prop_assert_eq!(String::from_utf8_lossy(&out).into_owned(), all.clone());
        }
    }

    #[test]
    fn all_stages_are_the_same_for_every_chunking(text in wild_text(), cuts in cuts(), every in 1_usize..4) {
        let masks = ["secret".to_owned(), "ret?".to_owned()];
        let whole = render(options(&masks, false), &text, &[]);
        prop_assert_eq!(&render(options(&masks, false), &text, &cuts), &whole);
        let fine: Vec<usize> = (0..text.len()).step_by(every).collect();
        prop_assert_eq!(&render(options(&masks, false), &text, &fine), &whole);
        prop_assert!(!whole.contains("secret"));

        let stamped = without_stamps(&render(options(&masks, true), &text, &cuts));
        let whole = if whole.is_empty() || whole.ends_with('\n') { whole } else { whole + "\n" };
        prop_assert_eq!(stamped, whole);
    }

    #[test]
    fn the_limit_cuts_at_the_same_place_for_every_chunking(text in wild_text(), cuts in cuts(), limit in 1_u64..40) {
        let limited = |cuts: &[usize]| render(Options { limit, ..options(&[], false) }, &text, cuts);
        prop_assert_eq!(limited(&cuts), limited(&[]));
    }
}

#[test]
fn masks_as_in_the_reference() {
    for (masks, writes, expected) in [
        (&["secrets"][..], &["s", "secrets"][..], "s[MASKED]"),
        (&["mask", "prefix_mask"], &["prefix_ma", "sk mas", "k"], "[MASKED] [MASKED]"),
        (&["foo", "bar"], &["xfoox ffooo bbarr"], "x[MASKED]x f[MASKED]o b[MASKED]r"),
        (&["foo"], &["foofoo"], "[MASKED][MASKED]"),
        (&[" foo "], &["a foo b"], "a [MASKED] b"),
        (&["abc", "bcde"], &["abcde"], "[MASKED]"),
        (&["", "  "], &["ab"], "ab"),
        (&["two\nlines\n"], &["two\nli", "nes two\r", "\nlines {\"two\\nlines\"}"], "[MASKED] [MASKED] {\"[MASKED]\"}"),
        (
            &["two\r\nlines"],
            &[
                "two\r\nlines two\nlines ",
                "+ echo $'two\\r",
                "\\nlines' {\"two\\r\\nlines\"} declare -x A=$'two\\nlines'",
            ],
            "[MASKED] [MASKED] + echo $'[MASKED]' {\"[MASKED]\"} declare -x A=$'[MASKED]'",
        ),
    ] {
        let masks: Vec<String> = masks.iter().map(|mask| (*mask).to_owned()).collect();
        let mut out = Vec::new();
        let mut trace = Trace::new(options(&masks, false), "", &mut out);
        for text in writes {
            trace.write(Stream::JobOut, now(), text.as_bytes(), &mut out);
        }
        trace.close(now(), &mut out);
        assert_eq!(String::from_utf8(out).as_deref(), Ok(expected), "{writes:?}");
    }
}

proptest! {
    #[test]
    fn added_masks_are_the_same_for_every_chunking((masks, text) in masked_text(), cuts in cuts()) {
        let lines: Vec<String> =
            masks.iter().map(|mask| format!("{text}\n::add-mask::{}\n", mask.replace('\n', " "))).collect();
        let lines = lines.concat();
        let whole = render(options(&[], false), lines.as_bytes(), &[]);
        prop_assert_eq!(render(options(&[], false), lines.as_bytes(), &cuts), whole);
    }
}

#[test]
fn a_job_adds_masks_for_what_comes_later() {
    let text = "token abcdefgh\n::add-mask::abcdefgh\ntoken abcdefgh\n::add-mask:: tokentok \nabcdefghtokentoken\n\
                x ::add-mask::other-value\n";
    for piece in 1..=text.len() {
        let cuts: Vec<usize> = (0..text.len()).step_by(piece).collect();
        assert_eq!(
            render(options(&[], false), text.as_bytes(), &cuts),
            "token abcdefgh\ntoken [MASKED]\n[MASKED][MASKED]en\nx ::add-mask::other-value\n",
            "by {piece}"
        );
    }
    // What has begun when a mask is added, in whichever stream, is not lost or shown.
    let (mut trace, mut out) = (Trace::new(options(&["secret".to_owned()], false), "", &mut Vec::new()), Vec::new());
    trace.write(Stream::ServiceOut(0), now(), b"a sec", &mut out);
    trace.write(Stream::JobOut, now(), b"::add-mask::ecrets more\n", &mut out);
    trace.write(Stream::ServiceOut(0), now(), b"rets more\n", &mut out);
    trace.close(now(), &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), "a [MASKED]\n");
}

#[test]
fn masks_that_a_job_adds_are_bounded_and_never_shown() {
    let (mut trace, mut out) = (Trace::new(options(&[], false), "", &mut Vec::new()), Vec::new());
    for number in 0..300 {
        trace.write(Stream::JobOut, now(), format!("::add-mask::value-{number}.\n").as_bytes(), &mut out);
    }
    assert_eq!(trace.take_refused_masks(), RefusedMasks { too_many: true, too_short: false });
    trace.write(Stream::JobOut, now(), b"::add-mask::1234567\nvalue-7. value-299. 1234567\n", &mut out);
    assert_eq!(trace.take_refused_masks(), RefusedMasks { too_many: false, too_short: true });
    assert_eq!(trace.take_refused_masks(), RefusedMasks::default());
    trace.close(now(), &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), "[MASKED] value-299. 1234567\n");
}

#[test]
fn what_cannot_begin_a_secret_is_shown_at_once() {
    let mut out = Vec::new();
    let mut trace = Trace::new(options(&["secret".to_owned()], false), "", &mut out);
    for (text, shown) in
        [(".", "."), (".s", ".."), ("e", ".."), ("x", "..sex"), ("secret", "..sex[MASKED]"), ("sec", "..sex[MASKED]")]
    {
        trace.write(Stream::JobOut, now(), text.as_bytes(), &mut out);
        assert_eq!(String::from_utf8_lossy(&out), shown);
    }
    trace.flush(now(), &mut out);
    trace.write(Stream::JobOut, now(), b"ret", &mut out);
    trace.close(now(), &mut out);
    trace.write(Stream::JobOut, now(), b"too late", &mut out);
    assert_eq!(String::from_utf8_lossy(&out), "..sex[MASKED]secret");
}

#[test]
fn streams_do_not_complete_each_others_secrets_or_characters() {
    let mut out = Vec::new();
    let mut trace = Trace::new(options(&["secret".to_owned()], false), "", &mut out);
    for (stream, text) in [
        (Stream::JobOut, b"se\xc3".as_slice()),
        (Stream::RunnerOut, b"note\n"),
        (Stream::JobOut, b"\xbc sec"),
        (Stream::ServiceOut(0), b"secret\n"),
        (Stream::JobOut, b"ret\n"),
    ] {
        trace.write(stream, now(), text, &mut out);
    }
    trace.close(now(), &mut out);
    assert_eq!(String::from_utf8_lossy(&out), "senote\nü [MASKED]\n[MASKED]\n");
}

#[test]
fn an_unfinished_line_can_be_shown_and_continued() {
    let mut out = Vec::new();
    let mut trace = Trace::new(options(&["secret".to_owned()], true), "", &mut out);
    trace.write(Stream::JobOut, now(), b"Password for sec", &mut out);
    assert!(out.is_empty() && trace.has_partial());
    trace.flush_partial(&mut out);
    assert!(!trace.has_partial());
    trace.flush_partial(&mut out);
    trace.write(Stream::JobOut, now(), b"ret: \n", &mut out);
    assert_eq!(
        String::from_utf8_lossy(&out).replace("1970-01-01T00:00:00.000000Z ", ""),
        "01O Password for \n01O+[MASKED]: \n"
    );
}

#[test]
fn a_head_counts_and_is_not_changed() {
    let mut out = Vec::new();
    let head = "1234secret\n";
    let mut trace = Trace::new(Options { limit: 14, ..options(&["secret".to_owned()], false) }, head, &mut out);
    assert_eq!((out.as_slice(), trace.len()), (head.as_bytes(), head.len() as u64));
    trace.write(Stream::JobOut, now(), b"56789", &mut out);
    assert!(
        String::from_utf8_lossy(&out).starts_with("1234secret\n567\n\x1b[33;1mJob's log exceeded limit of 14 bytes.")
    );
    assert_eq!((trace.len(), trace.crc32()), (out.len() as u64, crc32fast::hash(&out)));
}

#[test]
fn nothing_of_a_secret_is_in_debug_output() {
    let mut out = Vec::new();
    let mut trace = Trace::new(options(&["hunter2".to_owned()], true), "", &mut out);
    trace.write(Stream::JobOut, now(), b"hunter", &mut out);
    let shown = format!("{trace:?}");
    assert!(!shown.contains("hunter") && !shown.contains("104, 117"), "{shown}");
}
