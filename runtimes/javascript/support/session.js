'use strict';
// The program inside a JavaScript session. It runs for as long as the session lives and executes its cells, as a notebook does.
//
// It speaks newline-delimited JSON over descriptor 3, a connected stream socket:
//
//     -> {"ready":true,"runtime":"javascript","version":"20.19.0","interrupt":"line"}                    once
//     <- {"id":1,"code":"...","timeout_ms":220000}
//     <- {"interrupt":1}                                                                  while it runs, if it must end
//     -> {"id":1,"ok":true,"result":{"text":"2"},"absent":false,"error":null,"truncated":false}
//
// A cell is a script in the global scope: what it declares, later cells see, and what is declared with const or let cannot be
// declared again. `await` is allowed everywhere. The value is that of the last expression, as util.inspect shows it; a promise
// is waited for. What a cell prints is in the pipes before the answer.
//
// Code that runs ends at its time, and an interrupt ends the waiting for a promise; what the cell has begun in the background goes on,
// since nothing can stop a promise. SIGINT ends code that runs, too: it is sent where the interrupt has no effect, and only there, because
// node dies of one that comes when a script begins or ends.

const fs = require('fs');
const net = require('net');
const path = require('path');
const util = require('util');
const vm = require('vm');
const { Writable } = require('stream');
const { createRequire } = require('module');

const TEXT_BYTES_MAX = 1 << 20;
const MESSAGE_CHARS_MAX = 64 << 10;
const TRACEBACK_CHARS_MAX = 96 << 10;
// What is behind the frames of a cell: how it was called.
const OURS = new RegExp(`^\\s+at .*(?:node:(?:vm|net|events|domain|internal/[\\w/]+):\\d|${RegExp.escape?.(__filename) ?? __filename.replace(/[.\\/]/g, '\\$&')})`);
// What a cell does to the globals must not be what we fail for.
const { Buffer, Error, Object, Promise } = globalThis;
const { parse, stringify } = JSON;
const { inspect, types } = util;
const { Script } = vm;

let transform = null;
try {
  // The REPL's own: rewrites a script that awaits so that what it declares stays declared.
  transform = require('internal/repl/await').processTopLevelAwait;
} catch {
  // Without --expose-internals, or in a version that has it elsewhere: see awaiting().
}
const importModuleDynamically = vm.constants?.USE_MAIN_CONTEXT_DEFAULT_LOADER ?? ((specifier) => import(specifier));

class Interrupted extends Error {
  #timedOut;

  constructor(message, timedOut = false) {
    super(message);
    this.#timedOut = timedOut;
  }

  get timedOut() {
    return this.#timedOut;
  }

  get name() {
    return 'Interrupted';
  }
}

class Exit extends Error {
  get name() {
    return 'Exit';
  }
}

// The number of the cell; of one that runs, its request and what ends its waiting.
let count = 0;
let running = null;
let interrupt = null;
// The number of a cell whose interrupt came before it began: on a busy machine both lie in the pipe.
let early = null;

function compile(code, filename) {
  return new Script(code, { filename, importModuleDynamically });
}

/** The script of a cell, and what its value is wrapped in. */
function prepare(code, filename) {
  // As at the prompt: what begins like an object and can be one, is one.
  if (/^\s*\{/.test(code) && !/;\s*$/.test(code)) {
    try {
      return [compile(`(${code.trimEnd()}\n)`, filename), false];
    } catch {
      // It is a block.
    }
  }
  if (/\bawait\b/.test(code)) {
    const awaiting = awaitingScript(code);
    if (awaiting !== null) {
      try {
        return [compile(awaiting, filename), true];
      } catch {
        // The error in the code as it was written is the one to tell.
      }
    }
  }
  return [compile(code, filename), false];
}

function awaitingScript(code) {
  if (transform !== null) {
    try {
      return transform(code);
    } catch {
      return null;
    }
  }
  try {
    compile(code, 'await');
    return null;
  } catch {
    return `(async () => { ${code}\n})().then((value) => ({ value }))`;
  }
}

/** Waits for a promise of the cell, unless it is interrupted before. By `await`: a cell may have made `then` what it likes. */
function settled(promise) {
  return new Promise((resolve, reject) => {
    interrupt = () => reject(new Interrupted('the cell was interrupted while it waited'));
    (async () => {
      try {
        resolve(await promise);
      } catch (error) {
        reject(error);
      }
    })();
  });
}

/** Runs a cell. The value stands in an object: what only looks like a promise is a value like others, and is not waited for. */
async function run({ code, timeout_ms: timeout = 220_000 }) {
  const [script, wrapped] = prepare(code.replace(/^\ufeff/, ''), `cell ${count}`);
  let value;
  try {
    value = script.runInThisContext({ breakOnSigint: true, timeout: Math.max(timeout, 1) });
  } catch (error) {
    const timedOut = error?.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT';
    if (timedOut || error?.code === 'ERR_SCRIPT_EXECUTION_INTERRUPTED') throw new Interrupted('the cell was interrupted', timedOut);
    throw error;
  }
  if (wrapped) return { value: (await settled(value))?.value };
  return { value: types.isPromise(value) ? await settled(value) : value };
}

/** The text with at most so many bytes of UTF-8, and whether something was cut. */
function cut(text, bytes) {
  const encoded = Buffer.from(text);
  if (encoded.length <= bytes) return [encoded.toString(), false];
  let end = bytes;
  while ((encoded[end] & 0xc0) === 0x80) end--;
  return [encoded.toString('utf8', 0, end), true];
}

/** Without halves of surrogate pairs, which are no text to others. */
function wellFormed(text) {
  return Buffer.from(text).toString();
}

function withoutOurFrames(stack) {
  const lines = [];
  for (const line of stack.split('\n')) {
    if (!OURS.test(line)) lines.push(line);
    // Behind the last frame the error's own properties begin.
    else if (line.endsWith(' {') && lines.length > 0) lines.push(`${lines.pop()} {`);
  }
  return lines.join('\n');
}

/** What was thrown, as the wire has it. */
function describe(thrown) {
  let name = typeof thrown;
  let message = '';
  let traceback = '';
  try {
    if (types.isNativeError(thrown) || thrown instanceof Error) {
      name = `${thrown.name}`;
      message = `${thrown.message}`;
      traceback = thrown instanceof Exit ? `${name}: ${message}` : withoutOurFrames(inspect(thrown));
    } else {
      message = inspect(thrown);
      traceback = `Uncaught ${message}`;
    }
  } catch {
    traceback ||= `Uncaught ${name}`;
  }
  if (traceback.length > TRACEBACK_CHARS_MAX) traceback = `${traceback.slice(0, TRACEBACK_CHARS_MAX)}\n    [... left out ...]`;
  return { name: wellFormed(name.slice(0, 1000)), message: wellFormed(message.slice(0, MESSAGE_CHARS_MAX)), traceback: wellFormed(`${traceback}\n`) };
}

/** A standard stream that keeps nothing: an interrupt in the middle of a write would leave node's own stuck for ever. */
class Output extends Writable {
  constructor(fd) {
    super();
    this.fd = fd;
  }

  write(chunk, encoding, callback) {
    const done = typeof encoding === 'function' ? encoding : callback;
    let rest = typeof chunk === 'string' ? Buffer.from(chunk, typeof encoding === 'string' ? encoding : 'utf8') : chunk;
    while (rest.length > 0) {
      try {
        rest = rest.subarray(fs.writeSync(this.fd, rest));
      } catch (error) {
        // A program that shares the pipe may have made it non-blocking.
        if (error.code !== 'EAGAIN') break;
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
      }
    }
    if (typeof done === 'function') process.nextTick(done);
    return true;
  }

  end(...rest) {
    if (rest.length > 0 && typeof rest[0] !== 'function' && rest[0] != null) this.write(...rest);
    else if (typeof rest[0] === 'function') process.nextTick(rest[0]);
    return this;
  }
}

async function answer(request) {
  count += 1;
  const answer = { id: request.id, ok: true, result: null, absent: true, error: null, truncated: false };
  running = request.id;
  try {
    if (early === request.id) throw new Interrupted('the cell was interrupted before it began');
    const { value } = await run(request);
    if (value !== undefined) {
      const shown = types.isNativeError(value) ? withoutOurFrames(inspect(value)) : inspect(value);
      const [text, truncated] = cut(shown, TEXT_BYTES_MAX);
      Object.assign(answer, { result: { text }, absent: false, truncated });
    }
  } catch (thrown) {
    Object.assign(answer, { ok: false, error: describe(thrown), timed_out: thrown instanceof Interrupted && thrown.timedOut });
  }
  running = interrupt = null;
  return answer;
}

function tell(thrown) {
  fs.writeSync(2, describe(thrown).traceback);
}

process.on('SIGINT', () => interrupt?.());
// Of what a cell left running. It says what went wrong, and the session goes on.
process.on('uncaughtException', tell);
process.on('unhandledRejection', tell);
process.exit = (code) => {
  throw new Exit(`process.exit(${code ?? ''}) was called; the session goes on`);
};
for (const [name, fd] of [['stdout', 1], ['stderr', 2]]) {
  const stream = new Output(fd);
  Object.defineProperty(process, name, { configurable: true, enumerable: true, get: () => stream });
}
const modules = process.argv.splice(1).slice(1);
Object.defineProperties(globalThis, {
  require: { value: createRequire(path.join(process.cwd(), 'cell')), writable: true, configurable: true },
  module: { value: { exports: {} }, writable: true, configurable: true },
  exports: { get: () => globalThis.module.exports, configurable: true },
});
// Modules to have before it is ready; where one cannot be had, it never is.
for (const name of modules) {
  try {
    globalThis.require(name);
  } catch (error) {
    tell(error);
    process.reallyExit(1);
  }
}

const socket = new net.Socket({ fd: 3, readable: true, writable: true });
const send = (message) => socket.write(`${stringify(message)}\n`);
let received = [];
let last = null;
async function serve(request, before) {
  await before;
  send(await answer(request));
}
socket.on('data', (chunk) => {
  let rest = chunk;
  for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
    const line = Buffer.concat([...received, rest.subarray(0, end)]).toString();
    received = [];
    rest = rest.subarray(end + 1);
    const request = parse(line);
    if (request.interrupt === undefined) last = serve(request, last);
    else if (request.interrupt === running) interrupt?.();
    else early = request.interrupt;
  }
  if (rest.length > 0) received.push(rest);
});
socket.on('error', () => process.reallyExit(0));
socket.on('close', () => process.reallyExit(0));
send({ ready: true, runtime: 'javascript', version: process.versions.node, interrupt: 'line' });
