//! `/api/v2/connect`: a job whose input, output and signals go over a WebSocket. A closed connection stops its job.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use greenroom_backends::{Control, Event};
use greenroom_core::{Job, Stream};
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

/// A connection that has to go: with a close frame, or without one because the client is gone.
enum End {
    Close(Close),
    Gone,
}

impl From<axum::Error> for End {
    fn from(_: axum::Error) -> Self {
        End::Gone
    }
}

/// Serves one connection to its end.
pub(crate) async fn serve(gateway: Arc<Inner>, socket: WebSocket) {
    let mut talk = Talk { socket, conversation: Conversation::default() };
    let (Ok(close) | Err(End::Close(close))) = talk.converse(&gateway).await else { return };
    let frame = CloseFrame { code: close.code(), reason: Utf8Bytes::from_static(close.reason()) };
    // A client that is gone needs no close; one that stays gets a moment to answer it.
    if talk.socket.send(Message::Close(Some(frame))).await.is_ok() {
        let answered = async { while let Some(Ok(_)) = talk.socket.recv().await {} };
        if tokio::time::timeout(Duration::from_secs(1), answered).await.is_err() {
            tracing::debug!("a WebSocket client did not answer the close");
        }
    }
}

struct Talk {
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
        let (runtime, job) = match adapt(gateway, request, Input::Client) {
            Ok(adapted) => adapted,
            Err(Refused::Invalid(invalid)) => return self.refuse(Refusal::from(invalid)).await,
            Err(other) => return self.refuse(Refusal::notified(other.to_string())).await,
        };
        let mut hops = Hops { adapt_us: since(begun), ..Hops::default() };
        let asked = std::time::Instant::now();
        let place = match self.admit(gateway).await? {
            Ok(place) => place,
            Err(denied) => return self.refuse(Refusal::notified(denied.to_string())).await,
        };
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
    async fn admit(&mut self, gateway: &Inner) -> Result<Result<Place, crate::admission::Denied>, End> {
        let admitted = gateway.admission.admit();
        tokio::pin!(admitted);
        loop {
            tokio::select! {
                place = &mut admitted => return Ok(place),
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
                () = gateway.cut.cancelled() => return self.refuse(Refusal::notified("the server is shutting down")).await,
                event = execution.events.recv() => match event {
                    Some(Event::StageStarted(stage)) => self.tell(&ServerMessage::Stage { stage }).await?,
                    Some(Event::Output { stream, bytes }) => {
                        let decoder = if stream == Stream::Stdout { &mut stdout } else { &mut stderr };
                        self.data(stream, decoder.push(&bytes)).await?;
                    }
                    Some(Event::StageEnded(outcome)) => {
                        self.data(Stream::Stdout, stdout.finish().to_owned()).await?;
                        self.data(Stream::Stderr, stderr.finish().to_owned()).await?;
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
                        pending.push_back(Control::Stdin(data));
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
                settle(gateway, runtime, &finished.outcome, &mut hops, finished.timings);
                Ok(Close::JobCompleted)
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "an execution failed");
                gateway.metrics.failure(error.blame());
                self.refuse(Refusal::notified("the execution failed on our side; try again")).await
            }
            Err(_) => self.refuse(Refusal::notified("the execution was stopped")).await,
        }
    }

    async fn data(&mut self, stream: Stream, data: String) -> Result<(), End> {
        if data.is_empty() { Ok(()) } else { self.tell(&ServerMessage::Data { stream, data }).await }
    }

    /// The next message of the client.
    async fn hear(&mut self) -> Result<ClientMessage, End> {
        loop {
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
            match self.conversation.receive(bytes) {
                Ok(message) => return Ok(message),
                Err(refusal) => return Err(End::Close(self.refuse(refusal).await?)),
            }
        }
    }

    async fn refuse(&mut self, refusal: Refusal) -> Result<Close, End> {
        if let Some(message) = refusal.error {
            self.tell(&ServerMessage::Error { message }).await?;
        }
        Ok(refusal.close)
    }

    async fn tell(&mut self, message: &ServerMessage) -> Result<(), End> {
        Ok(self.socket.send(Message::Text(message.to_json().into())).await?)
    }
}
