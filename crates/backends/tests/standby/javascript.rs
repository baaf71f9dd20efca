//! What Node shows of how it was started, and what it does with its program.

use super::Case;

/// What each program may require.
const LIB: &str = "exports.f=()=>console.log(\"lib\", module.parent.id, require.main.filename)";

pub(crate) fn cases() -> Vec<Case> {
    let common = [
        "console.log(42)",
        "throw new Error(\"x\")",
        "console.log(process.argv, process.execArgv, __filename, require.main===module, module.id, module.parent, module.children.length, Object.keys(require.cache), module.paths, process.argv0, process.title)",
        "process.stdin.on(\"data\",d=>console.log(\"\"+d)); process.stdin.on(\"end\",()=>{console.log(\"end\"); process.exitCode=3})",
        "console.log(require(\"fs\").readFileSync(0,\"utf8\"))",
        "syntax error here",
        "Promise.reject(new Error(\"p\"))",
        "require(\"./lib\").f(); console.log(module.children.length)",
        "setTimeout(()=>{throw 5},10)",
        "const {Worker,isMainThread}=require(\"worker_threads\"); if(isMainThread){new Worker(__filename)} else console.log(\"w\",process.argv.length, process.execArgv)",
        "const cp=require(\"child_process\"); if(process.argv[2]!=\"c\"){cp.fork(__filename,[\"c\"])} else console.log(\"child\",process.argv.slice(2), process.execArgv)",
        "process.kill(process.pid,\"SIGTERM\"); setTimeout(()=>{},1000)",
        "process.on(\"exit\",c=>console.log(\"exit\",c)); process.exit(7)",
        "function f(){f()} f()",
        "import fs from \"fs\"; console.log(1)",
        "console.log(Object.keys(process).sort().join(), Object.keys(global).join())",
        "const rl=require(\"readline\").createInterface({input:process.stdin}); rl.on(\"line\",l=>console.log(\"L\",l)); rl.on(\"close\",()=>console.log(\"C\"))",
        "console.error(new Error(\"z\").stack); console.log(process.stdout.isTTY, process.env.FOO, process.cwd(), process.stdout.constructor.name, process.stdout._type)",
        "console.log(process._getActiveHandles().length, process.memoryUsage().rss>0, require(\"module\")._findPath.toString().length, process.listenerCount(\"exit\"))",
        "await 1",
        "process.abort()",
        "console.log(require(\"module\").globalPaths.length, require.resolve(\"./lib\"), process.mainModule.filename, process.config.variables.napi_build_version)",
        "const fs=require('fs'); fs.writeFileSync('a','b'); console.log(fs.readdirSync('.'), fs.statSync('main.js').mode, process.umask(), fs.readdirSync('/proc/self/fd').length, process.env)",
        "console.log(process.ppid, process.getuid()>0, require('os').userInfo().username, require('v8').getHeapStatistics().heap_size_limit)",
        "console.log(process.getActiveResourcesInfo(), process._preload_modules, Object.keys(require('module')._pathCache).length)",
        "queueMicrotask(()=>console.log('m')); process.nextTick(()=>console.log('t')); setImmediate(()=>console.log('i'))",
        "process.on('uncaughtException', e => { console.log('caught', e.message); process.exit(9) }); throw new Error('u')",
        "process.on('SIGTERM', () => { console.log('got it'); process.exit(4) }); process.kill(process.pid, 'SIGTERM'); setTimeout(()=>{}, 500)",
        "process.on('beforeExit', () => console.log('before')); process.on('exit', c => console.log('exit', c)); process.exitCode = 6",
        "console.log(require('child_process').execFileSync('/bin/cat', {input: 'x'}).toString(), require('child_process').spawnSync('sh', ['-c', 'ls /proc/self/fd | wc -l']).stdout.toString())",
        "const m = require('module'); console.log(m.prototype.constructor === m, require.extensions['.js'].length, module.constructor === m, this === module.exports)",
        "console.log(new Error('deep').stack.split('\\n').length, Error.stackTraceLimit, (function f(n) { return n ? f(n - 1) : new Error('x').stack })(20))",
        "(async () => { await null; console.log((await import('./lib.js')).default.f !== undefined, require('fs').existsSync('/box/submission/lib.js')); })()",
        "const vm = require('vm'); console.log(vm.runInNewContext('1+1'), eval('typeof require'), typeof globalThis.require)",
        "process.stdout.write('no newline'); process.stderr.write('err'); process.exit()",
        "console.log(require.resolve.paths('x'), process.cwd(), process.env.PWD, process.env.HOME, Object.keys(process.env).length)",
        "let s=''; process.stdin.setEncoding('utf8').on('readable', () => { let c; while ((c = process.stdin.read()) !== null) s += c }).on('end', () => console.log(s.length))",
        "console.log(process.stdin.constructor.name, process.stdin.readableFlowing, process.stdin.fd); process.stdin.destroy()",
        "setInterval(()=>{}, 1000).unref(); console.log('ends')",
        "console.log([3,1,2].toSorted(), structuredClone({a:1n}), Intl.DateTimeFormat().resolvedOptions().timeZone)",
        "const a=[]; process.on('warning', w => console.log(w.name)); process.emitWarning('w'); console.log(require('util').inspect(process.versions.node))",
        "console.log('x'.repeat(30000))",
        "process.kill(process.pid, 9)",
    ];
    let mut cases: Vec<Case> =
        common.map(|source| Case::new("main.js", source).with("lib.js", LIB).input(&["a", "-b", ""], "in1\nin2\n")).into();
    cases.extend([
        Case::new("m.mjs", "export {}; console.log(import.meta.url, process.argv)"),
        Case::new("m.mjs", "import { f } from './lib.mjs'; console.log(f()); throw new TypeError('t')")
            .with("lib.mjs", "export const f = () => 5;"),
        Case::new("m.mjs", "console.log(await Promise.resolve(3)); await new Promise(() => {})"),
        Case::new("sub/x.js", "console.log(__filename, process.cwd(), require('../y'))").with("y.js", "module.exports = __dirname"),
        Case::new("file0.code", "console.log(__filename)"),
        Case::new("a b.js", "console.log(__filename, process.argv[1])"),
        Case::new("-x.js", "console.log(__filename, process.argv[1])"),
        Case::new("main.js", "").input(&[], "unread"),
        Case::new("main.js", "#!/usr/bin/env node\nconsole.log('she bang')"),
        Case::new("main.js", "console.log(require('x').a)").with("node_modules/x/index.js", "exports.a = module.paths.length"),
        Case::new("main.js", "console.log(require('./missing'))"),
        Case::new("main.js", "console.log(require('./d.json').k)").with("d.json", "{\"k\": [1]}"),
        Case::new("main.js", "while (true);").within(700),
        Case::new("main.js", "const a = []; for (;;) a.push(new Array(1e6).fill(1.5))"),
        // Node has read, before it had a program, that there is none.
        Case::new("main.js", "console.log(typeof require)").with("package.json", "{\"type\":\"module\"}").cold(),
    ]);
    cases
}
