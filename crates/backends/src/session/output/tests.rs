use std::io::Write as _;

use super::*;

fn output() -> (Output, std::io::PipeWriter, std::io::PipeWriter) {
    let (stdout, out) = std::io::pipe().unwrap();
    let (stderr, err) = std::io::pipe().unwrap();
    (Output::new(stdout.into(), stderr.into()).unwrap(), out, err)
}

#[tokio::test]
async fn what_is_in_the_pipes_before_a_cell_is_not_its_output() {
    let (mut output, mut out, mut err) = output();
    out.write_all(b"before").unwrap();
    output.begin();
    out.write_all(b"out").unwrap();
    err.write_all(b"err").unwrap();
    output.drain(100);
    assert_eq!(output.take(Stream::Stdout, None).text, "out");
    assert_eq!(output.take(Stream::Stderr, None).text, "err");
    out.write_all(b"after").unwrap();
    output.begin();
    assert_eq!(output.take(Stream::Stdout, None).text, "");
}

#[tokio::test]
async fn a_draining_takes_what_is_there_and_not_what_goes_on_coming() {
    let (mut output, mut out, _err) = output();
    let writer = std::thread::spawn(move || while out.write_all(&[b'x'; 4096]).is_ok() {});
    output.begin();
    while output.stdout.kept.is_empty() {
        output.read(10).await;
    }
    output.drain(10);
    let written = output.take(Stream::Stdout, None);
    assert_eq!((written.text.as_str(), written.cut), ("xxxxxxxxxx", true));
    drop(output);
    writer.join().unwrap();
}

#[tokio::test]
async fn a_character_that_was_cut_in_two_is_left_out_and_bytes_that_are_no_text_are_replaced() {
    let (mut output, mut out, mut err) = output();
    output.begin();
    out.write_all("aää".as_bytes()).unwrap();
    err.write_all(b"a\xffb").unwrap();
    output.drain(4);
    let written = output.take(Stream::Stdout, None);
    assert_eq!((written.text.as_str(), written.cut), ("aä", true));
    let written = output.take(Stream::Stderr, None);
    assert_eq!((written.text.as_str(), written.cut), ("a\u{fffd}b", false));
}

#[tokio::test]
async fn characters_are_counted_not_bytes() {
    let (mut output, mut out, _err) = output();
    output.begin();
    out.write_all("äöü".as_bytes()).unwrap();
    output.drain(100);
    let written = output.take(Stream::Stdout, Some(2));
    assert_eq!((written.text.as_str(), written.cut), ("äö", true));
    out.write_all("äö".as_bytes()).unwrap();
    output.drain(100);
    let written = output.take(Stream::Stdout, Some(2));
    assert_eq!((written.text.as_str(), written.cut), ("äö", false));
}

#[tokio::test]
async fn a_closed_stream_does_not_keep_the_other_from_being_read() {
    let (mut output, out, mut err) = output();
    drop(out);
    err.write_all(b"err").unwrap();
    output.begin();
    err.write_all(b"more").unwrap();
    assert_eq!(output.read(100).await, 4);
    assert_eq!(output.take(Stream::Stderr, None).text, "more");
}
