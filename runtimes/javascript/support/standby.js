'use strict';
// Stands by: loaded by `node -r` before any program is there. It waits on standard input for one job, writes its files, and makes Node go on as
// if it had been started with that program. It leaves no trace that programs look for: argv, require.main, stacks, the cache of modules.
const Module = require('module');
const { isMainThread } = require('worker_threads');

// A program's own threads load it too, but not the processes that it starts.
if (isMainThread) stand();
forget();

function forget() {
  process.execArgv.splice(process.execArgv.indexOf(__filename) - 1, 2);
  process._preload_modules.length = 0;
  delete require.cache[__filename];
  for (const key of Object.keys(Module._pathCache)) delete Module._pathCache[key];
}

function stand() {
  const fs = require('fs');
  const path = require('path');
  // What most programs need, and what Node makes when it is first used.
  const common = ['util', 'events', 'stream', 'readline', 'buffer', 'timers', 'string_decoder', 'url', 'os', 'net', 'tty'];
  common.forEach((name) => require(name));
  require('util').inspect([{ a: [1, 'x', null], b: new Map([[1, new Set([2])]]), c: new Error('x').stack, d: () => 1, e: 1.5 }]);
  fs.writeSync(1, '\x01');

  const read = (length) => {
    const bytes = Buffer.allocUnsafeSlow(length);
    for (let have = 0; have < length; ) {
      const got = fs.readSync(0, bytes, have, length - have, null);
      // Nobody has a job any more.
      if (got === 0) process.reallyExit(0);
      have += got;
    }
    return bytes;
  };
  const number = () => read(4).readUInt32BE();
  const text = () => read(number()).toString();
  const list = (item) => Array.from({ length: number() }, item);
  list(text);
  const [main, ...args] = list(text);
  list(() => {
    const name = text();
    const mode = read(1)[0] === 1 ? 0o755 : 0o644;
    fs.mkdirSync(path.dirname(name), { recursive: true, mode: 0o755 });
    fs.writeFileSync(name, read(number()), { mode });
  });
  // From here on its limits are in force.
  read(1);

  const stub = process.argv[1];
  const file = path.resolve(main);
  process.argv.splice(1, process.argv.length, file, ...args);
  // Node has noted the stub's name as that of the main module, and asks twice where that is: once for its kind, once to load it.
  // For an ES module, only once; its own code runs later.
  const find = Module._findPath;
  const restore = () => void (Module._findPath = find);
  let asked = 0;
  Module._findPath = function (request, paths, isMain) {
    if (++asked === 2) restore();
    return find.call(this, request === stub ? file : request, paths, isMain);
  };
  process.nextTick(restore);
}
