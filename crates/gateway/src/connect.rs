//! `/api/v2/connect`: a job whose input, output and signals go over a WebSocket. A closed connection stops its job.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use greenroom_backends::{Control, Event};
use greenroom_core::{Job, Stream};
use greenroom_identity::Subject;
use greenroom_runtimes::Runtime;
use greenroom_wire::piston::{ClientMessage, Close, Conversation, ExecuteRequest, Refusal, ServerMessage, Utf8Decoder};

use crate::{
    admission::Place,
    execute::{Input, adapt, settle, since},
    gateway::Inner,
    metrics::Hops,
    reply::Refused,
};

/// Messages kept for a program that does not read; with more, the client waits.
const PENDING: usize = 64;

/// Input is passed on in pieces of this size: messages may be large, and what is on its way is counted in messages.
const PIECE_BYTES: usize = 64 * 1024;

/// How long a client may leave a message unread. Its job has a place that others wait for.
const UNREAD: Duration = Duration::from_secs(10);

/// A connection that has to go: with the reason said, or without because the client is gone.
enum End {
    Refused(Refusal),
    Gone,
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        End::Refused(refusal)
    }
}

impl From<axum::Error> for End {
    fn from(_: axum::Error) -> Self {
        End::Gone
    }
}

/// Serves one connection to its end.
pub(crate) async fn serve(gateway: Arc<Inner>, subject: Subject, socket: WebSocket) {
    let mut talk = Talk { subject, socket, conversation: Conversation::default() };
    let last = match talk.converse(&gateway).await {
        Ok(close) => Refusal { error: None, close },
        Err(End::Refused(refusal)) => refusal,
        Err(End::Gone) => return,
    };
    if talk.part(last).await.is_err() {
        tracing::debug!("a WebSocket client was gone before it was told why");
    }
}

struct Talk {
    subject: Subject,
    socket: WebSocket,
    conversation: Conversation,
}

impl Talk {
    async fn converse(&mut self, gateway: &Arc<Inner>) -> Result<Close, End> {
        let begun = std::time::Instant::now();
        let within = Duration::from_millis(Close::INIT_TIMEOUT_MS);
        let request = match tokio::time::timeout(within, self.init()).await {
            Ok(request) => request?,
            Err(_) => return Ok(Close::InitializationTimeout),
        };
        let (runtime, job) = match adapt(gateway, &self.subject, request, Input::Client) {
            Ok(adapted) => adapted,
            Err(Refused::Invalid(invalid)) => return Err(Refusal::from(invalid).into()),
            Err(other) => return Err(Refusal::notified(other.to_string()).into()),
        };
        let mut hops = Hops { adapt_us: since(begun), ..Hops::default() };
        let asked = std::time::Instant::now();
        let place = self.admit(gateway).await?;
        hops.admit_us = since(asked);
        let (language, version) = (runtime.language().to_owned(), runtime.version().to_owned());
        self.tell(&ServerMessage::Runtime { language, version }).await?;
        self.job(gateway, &runtime, job, place, hops).await
    }

    /// The first valid `init`.
    async fn init(&mut self) -> Result<ExecuteRequest, End> {
        loop {
            if let ClientMessage::Init(request) = self.hear().await? {
                return Ok(*request);
            }
        }
    }

    /// Waits for a place; a client that closes meanwhile leaves the queue.
    async fn admit(&mut self, gateway: &Inner) -> Result<Place, End> {
        let subject = self.subject.clone();
        let admitted = gateway.admission.admit(&subject);
        tokio::pin!(admitted);
        loop {
            tokio::select! {
                place = &mut admitted => return place.map_err(|denied| Refusal::notified(denied.to_string()).into()),
                // What comes before the job runs is for no stage: as Piston, input sent too early is lost.
                heard = self.hear() => { heard?; }
            }
        }
    }

    async fn job(&mut self, gateway: &Inner, runtime: &Runtime, job: Job, place: Place, mut hops: Hops) -> Result<Close, End> {
        let mut execution = gateway.local.stream(job);
        let (mut stdout, mut stderr) = (Utf8Decoder::default(), Utf8Decoder::default());
        // What the program does not take yet. Kept here, not waited for: a program that waits for us to read its
        // output before it reads its input must not wait for ever.
        let mut pending: VecDeque<Control> = VecDeque::new();
        loop {
            tokio::select! {
                // What the program said comes before what the client says to it.
                biased;
                () = gateway.cut.cancelled() => return Err(Refusal::notified("the server is shutting down").into()),
                event = execution.events.recv() => match event {
                    Some(Event::StageStarted(stage)) => self.tell(&ServerMessage::Stage { stage }).await?,
                    Some(Event::Output { stream, bytes }) => {
                        let decoder = if stream == Stream::Stdout { &mut stdout } else { &mut stderr };
                        self.data(stream, decoder.push(&bytes)).await?;
                    }
                    Some(Event::StageEnded(outcome)) => {
                        self.data(Stream::Stdout, stdout.finish().to_owned()).await?;
                        self.data(Stream::Stderr, stderr.finish().to_owned()).await?;
                        // It was for the stage that is over: as on Piston, the next one has an input of its own.
                        pending.clear();
                        self.tell(&ServerMessage::exit(&outcome)).await?;
                    }
                    None => break,
                },
                Ok(permit) = execution.control.reserve(), if !pending.is_empty() => {
                    if let Some(control) = pending.pop_front() {
                        permit.send(control);
                    }
                }
                heard = self.hear(), if pending.len() < PENDING => match heard? {
                    ClientMessage::Stdin { data, eof } => {
                        pending.extend(pieces(data).into_iter().map(Control::Stdin));
                        pending.extend(eof.then_some(Control::StdinEof));
                    }
                    ClientMessage::Signal(number) => pending.push_back(Control::Signal(number)),
                    ClientMessage::Init(_) | ClientMessage::Ignored => {}
                },
            }
        }
        drop(place);
        match execution.finished.await {
            Ok(Ok(finished)) => {
                settle(gateway, runtime, &finished, &mut hops);
                Ok(Close::JobCompleted)
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "an execution failed");
                gateway.metrics.failure(error.blame());
                Err(Refusal::notified("the execution failed on our side; try again").into())
            }
            Err(_) => Err(Refusal::notified("the execution was stopped").into()),
        }
    }

    async fn data(&mut self, stream: Stream, data: String) -> Result<(), End> {
        if data.is_empty() { Ok(()) } else { self.tell(&ServerMessage::Data { stream, data }).await }
    }

    /// The next message of the client. Dropped while it waits, it has lost none.
    async fn hear(&mut self) -> Result<ClientMessage, End> {
        loop {
            // A flood of pings is answered without ever waiting: others on this thread get their turn, too.
            tokio::task::coop::consume_budget().await;
            let frame = match self.socket.recv().await {
                Some(frame) => frame?,
                None => return Err(End::Gone),
            };
            let bytes = match &frame {
                Message::Text(text) => text.as_bytes(),
                Message::Binary(bytes) => bytes,
                Message::Ping(_) | Message::Pong(_) => continue,
                Message::Close(_) => return Err(End::Gone),
            };
            return Ok(self.conversation.receive(bytes)?);
        }
    }

    /// The last words: an `error` message, where there is one, and the close.
    async fn part(&mut self, refusal: Refusal) -> Result<(), End> {
        if let Some(message) = refusal.error {
            self.tell(&ServerMessage::Error { message }).await?;
        }
        let close = CloseFrame { code: refusal.close.code(), reason: Utf8Bytes::from_static(refusal.close.reason()) };
        self.send(Message::Close(Some(close))).await?;
        // Closed at once, the connection could lose what the client has not read yet: it gets a moment to answer.
        let answered = async { while let Some(Ok(_)) = self.socket.recv().await {} };
        if tokio::time::timeout(Duration::from_secs(1), answered).await.is_err() {
            tracing::debug!("a WebSocket client did not answer the close");
        }
        Ok(())
    }

    async fn tell(&mut self, message: &ServerMessage) -> Result<(), End> {
        self.send(Message::Text(message.to_json().into())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        match tokio::time::timeout(UNREAD, self.socket.send(message)).await {
            Ok(sent) => Ok(sent?),
            Err(_) => {
                tracing::info!("a WebSocket client does not read what it is sent: its job is stopped");
                Err(End::Gone)
            }
        }
    }
}

fn pieces(data: Vec<u8>) -> Vec<Vec<u8>> {
    // Most input is a line: it goes on as it is.
    if data.len() <= PIECE_BYTES { vec![data] } else { data.chunks(PIECE_BYTES).map(<[u8]>::to_vec).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_input_goes_on_in_pieces_and_nothing_of_it_is_lost() {
        for len in [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES - 7] {
            let data: Vec<u8> = (0..=250).cycle().take(len).collect();
            let all = pieces(data.clone());
            assert!(all.iter().all(|piece| piece.len() <= PIECE_BYTES), "{len}");
            assert_eq!(all.concat(), data);
        }
    }
}
