use super::*;
use greenroom_core::{Exit, Output, Usage, Verdict};
use proptest::prelude::*;

const INIT: &[u8] = br#"{"type":"init","language":"python","version":"*","files":[{"content":""}]}"#;

fn initialized() -> Conversation {
    let mut conversation = Conversation::default();
    assert!(matches!(conversation.receive(INIT), Ok(ClientMessage::Init(_))));
    assert!(conversation.is_initialized());
    conversation
}

fn refusal(conversation: &mut Conversation, frame: &str) -> (Option<String>, u16, &'static str) {
    let refusal = conversation.receive(frame.as_bytes()).unwrap_err();
    (refusal.error, refusal.close.code(), refusal.close.reason())
}

#[test]
fn closes_have_pistons_codes_and_reasons() {
    for (close, code, reason) in [
        (Close::AlreadyInitialized, 4000, "Already Initialized"),
        (Close::InitializationTimeout, 4001, "Initialization Timeout"),
        (Close::NotifiedError, 4002, "Notified Error"),
        (Close::NotYetInitialized, 4003, "Not yet initialized"),
        (Close::OnlyStdin, 4004, "Can only write to stdin"),
        (Close::InvalidSignal, 4005, "Invalid signal"),
        (Close::JobCompleted, 4999, "Job Completed"),
    ] {
        assert_eq!((close.code(), close.reason()), (code, reason));
    }
}

#[test]
fn before_init_only_init_and_what_means_nothing_may_come() {
    let mut conversation = Conversation::default();
    for frame in [r#"{"type":"nope"}"#, "{}", "[]", "5", "\"init\"", r#"{"type":5}"#, r#"{"language":"python"}"#] {
        assert_eq!(conversation.receive(frame.as_bytes()), Ok(ClientMessage::Ignored), "{frame}");
    }
    let not_yet = (None, 4003, "Not yet initialized");
    assert_eq!(refusal(&mut conversation, r#"{"type":"data","stream":"stdin","data":"x"}"#), not_yet);
    assert_eq!(refusal(&mut conversation, r#"{"type":"data","stream":"stdout"}"#), not_yet);
    assert_eq!(refusal(&mut conversation, r#"{"type":"signal","signal":"NOPE"}"#), not_yet);
    assert!(!conversation.is_initialized());
}

#[test]
fn a_second_init_closes_whatever_is_in_it() {
    let closed = (None, 4000, "Already Initialized");
    assert_eq!(refusal(&mut initialized(), r#"{"type":"init"}"#), closed);
    assert_eq!(refusal(&mut initialized(), std::str::from_utf8(INIT).unwrap()), closed);
}

#[test]
fn what_is_wrong_with_init_is_told_before_the_close() {
    let told = |message: &str| (Some(message.to_owned()), 4002, "Notified Error");
    let mut conversation = Conversation::default();
    assert_eq!(refusal(&mut conversation, r#"{"type":"init"}"#), told("language is required as a string"));
    assert!(!conversation.is_initialized());
    assert_eq!(refusal(&mut conversation, "null"), told("Cannot read properties of null (reading 'type')"));
    assert_eq!(
        refusal(&mut conversation, "{"),
        told("the message is not valid JSON: EOF while parsing an object at line 1 column 1")
    );
}

#[test]
fn input_is_for_stdin_and_may_end_it() {
    let mut conversation = initialized();
    for (frame, data, eof) in [
        (r#"{"type":"data","stream":"stdin","data":"a\u00e9\n"}"#, "aé\n", false),
        (r#"{"type":"data","stream":"stdin","data":""}"#, "", false),
        (r#"{"type":"data","stream":"stdin","data":"","eof":true}"#, "", true),
        (r#"{"type":"data","stream":"stdin","eof":true}"#, "", true),
        (r#"{"type":"data","stream":"stdin","data":"x","eof":true}"#, "x", true),
        (r#"{"type":"data","stream":"stdin","data":"x","eof":1}"#, "x", false),
    ] {
        assert_eq!(conversation.receive(frame.as_bytes()), Ok(ClientMessage::Stdin { data: data.into(), eof }), "{frame}");
    }
    for frame in
        [r#"{"type":"data","stream":"stdout","data":"x"}"#, r#"{"type":"data","data":"x"}"#, r#"{"type":"data","stream":5}"#]
    {
        assert_eq!(refusal(&mut conversation, frame), (None, 4004, "Can only write to stdin"));
    }
    for (frame, received) in [
        (r#"{"type":"data","stream":"stdin","data":5}"#, "5"),
        (r#"{"type":"data","stream":"stdin","data":null}"#, "null"),
        (r#"{"type":"data","stream":"stdin"}"#, "undefined"),
    ] {
        let message = format!("The \"chunk\" argument must be of type string. Received {received}");
        assert_eq!(refusal(&mut conversation, frame), (Some(message), 4002, "Notified Error"));
    }
}

#[test]
fn signals_are_named() {
    let mut conversation = initialized();
    for (name, number) in [("SIGINT", 2), ("SIGKILL", 9), ("SIGRTMIN+1", 35), ("SIGRTMAX", 64)] {
        let frame = format!(r#"{{"type":"signal","signal":"{name}"}}"#);
        assert_eq!(conversation.receive(frame.as_bytes()), Ok(ClientMessage::Signal(number)));
    }
    for signal in ["\"INT\"", "\"sigint\"", "9", "null", "\"SIGNOPE\""] {
        let frame = format!(r#"{{"type":"signal","signal":{signal}}}"#);
        assert_eq!(refusal(&mut conversation, &frame), (None, 4005, "Invalid signal"));
    }
    assert_eq!(refusal(&mut conversation, r#"{"type":"signal"}"#), (None, 4005, "Invalid signal"));
}

#[test]
fn the_server_s_messages_have_their_keys_in_order() {
    let usage = Usage::default();
    let killed = StageOutcome {
        kind: StageKind::Run,
        verdict: Verdict::WallTime,
        exit: Some(Exit::Signal(9)),
        output: Output::default(),
        usage,
    };
    let ended = StageOutcome {
        kind: StageKind::Compile,
        verdict: Verdict::Ok,
        exit: Some(Exit::Code(0)),
        output: Output::default(),
        usage,
    };
    for (message, json) in [
        (
            ServerMessage::Runtime { language: "python".into(), version: "3.11.2".into() },
            r#"{"type":"runtime","language":"python","version":"3.11.2"}"#,
        ),
        (ServerMessage::Stage { stage: StageKind::Compile }, r#"{"type":"stage","stage":"compile"}"#),
        (ServerMessage::Data { stream: Stream::Stderr, data: "x\n".into() }, r#"{"type":"data","stream":"stderr","data":"x\n"}"#),
        (ServerMessage::exit(&ended), r#"{"type":"exit","stage":"compile","code":0,"signal":null}"#),
        (ServerMessage::exit(&killed), r#"{"type":"exit","stage":"run","code":null,"signal":"SIGKILL"}"#),
        (ServerMessage::Error { message: "no".into() }, r#"{"type":"error","message":"no"}"#),
    ] {
        assert_eq!(message.to_json(), json);
    }
}

proptest! {
    #[test]
    fn no_frame_makes_it_panic(frame in proptest::collection::vec(any::<u8>(), 0..64), kind in "init|data|signal|x", rest in "[\\[\\]{}:,\"a-z0-9]{0,16}") {
        let mut conversation = initialized();
        let answers = [conversation.receive(&frame).is_ok(), conversation.receive(format!("{{\"type\":\"{kind}\"{rest}}}").as_bytes()).is_ok()];
        prop_assert_eq!(answers.len(), 2);
    }
}
