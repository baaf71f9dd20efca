// What Node offers to every program. Debian ships the compiler without @types/node, and the browser's declarations are left out:
// they take a third of the compiler's time, and their global names (name, Node, Event) collide with a program's own.

interface Console {
    [method: string]: (...data: any[]) => any;
}
declare var console: Console;

declare function setTimeout(callback: (...args: any[]) => void, ms?: number, ...args: any[]): any;
declare function setInterval(callback: (...args: any[]) => void, ms?: number, ...args: any[]): any;
declare function setImmediate(callback: (...args: any[]) => void, ...args: any[]): any;
declare function queueMicrotask(callback: () => void): void;
declare function clearTimeout(timer?: any): void;
declare function clearInterval(timer?: any): void;
declare function clearImmediate(timer?: any): void;
declare function structuredClone<T>(value: T, options?: any): T;
declare function atob(data: string): string;
declare function btoa(data: string): string;
declare function fetch(input: any, init?: any): Promise<any>;

declare var process: any;
declare var global: any;
declare var require: any;
declare var module: any;
declare var exports: any;
declare var performance: any;
declare var __dirname: string;
declare var __filename: string;

declare var Buffer: any;
type Buffer = any;
declare var URL: any;
type URL = any;
declare var URLSearchParams: any;
type URLSearchParams = any;
declare var TextEncoder: any;
type TextEncoder = any;
declare var TextDecoder: any;
type TextDecoder = any;
declare var AbortController: any;
type AbortController = any;
type AbortSignal = any;

declare namespace NodeJS {
    type Timeout = any;
    type Immediate = any;
    type ReadableStream = any;
    type WritableStream = any;
    type ErrnoException = any;
    type ProcessEnv = any;
    type Process = any;
    type Signals = any;
}

declare module "assert";
declare module "assert/strict";
declare module "async_hooks";
declare module "buffer";
declare module "child_process";
declare module "cluster";
declare module "console";
declare module "constants";
declare module "crypto";
declare module "dgram";
declare module "diagnostics_channel";
declare module "dns";
declare module "dns/promises";
declare module "domain";
declare module "events";
declare module "fs";
declare module "fs/promises";
declare module "http";
declare module "http2";
declare module "https";
declare module "inspector";
declare module "inspector/promises";
declare module "module";
declare module "net";
declare module "os";
declare module "path";
declare module "path/posix";
declare module "path/win32";
declare module "perf_hooks";
declare module "process";
declare module "punycode";
declare module "querystring";
declare module "readline";
declare module "readline/promises";
declare module "repl";
declare module "stream";
declare module "stream/consumers";
declare module "stream/promises";
declare module "stream/web";
declare module "string_decoder";
declare module "sys";
declare module "timers";
declare module "timers/promises";
declare module "tls";
declare module "trace_events";
declare module "tty";
declare module "url";
declare module "util";
declare module "util/types";
declare module "v8";
declare module "vm";
declare module "wasi";
declare module "worker_threads";
declare module "zlib";
declare module "node:*";
