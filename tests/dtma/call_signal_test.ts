import assert from "node:assert/strict";
import { abortSignalOf, BriefSignal } from "../../dtma/call_signal.ts";

Deno.test("BriefSignal tells each listener once, and none that was removed", () => {
  const signal = new BriefSignal();
  const told: string[] = [];
  const [one, two, three] = ["one", "two", "three"].map((name) => () => void told.push(name));
  for (const listener of [one, two, three]) signal.addEventListener("abort", listener);
  signal.removeEventListener("abort", one);
  signal.removeEventListener("abort", three);
  signal.addEventListener("abort", three);
  signal.throwIfAborted();
  signal.abort(new Error("given up"));
  signal.abort(new Error("again"));
  assert.deepEqual(told.sort(), ["three", "two"]);
  assert(signal.aborted);
  assert.throws(() => signal.throwIfAborted(), /given up/);
});

Deno.test("abortSignalOf follows the signal, however late it is asked for", () => {
  const { signal } = new AbortController();
  assert.equal(abortSignalOf(signal), signal);
  const brief = new BriefSignal();
  const before = abortSignalOf(brief);
  assert(!before.aborted);
  brief.abort("given up");
  for (const each of [before, abortSignalOf(brief)]) assert.equal(each.reason, "given up");
});
