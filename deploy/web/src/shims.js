// Node's globals that some packages expect.
export { Buffer } from "buffer";
export const process = { env: {}, nextTick: (run, ...args) => queueMicrotask(() => run(...args)), browser: true, version: "" };
