/** Large results of servers, which go on to their callers as the bytes that the servers wrote. */
import { isUtf8 } from "node:buffer";
import type { JsonRpcId, JsonRpcResponse } from "./connection.ts";
import { decoded, joined, keyAt, LARGE_BYTES, scanJson, type Span } from "./json_bytes.ts";

/** A server's line that is a response with a result of some size. */
export interface LargeFrame {
  kind: "large";
  id: unknown;
  /** The object that `result` is. */
  result: Uint8Array;
  /** Of the result. */
  keys: ReadonlySet<string>;
}

/**
 * Reads a line as bytes; null of a small one, and of one that has anything uncommon about it, which is to be
 * read as text.
 *
 * @param line kept, not copied
 */
export function largeFrame(line: Uint8Array): LargeFrame | null {
  if (line.length < LARGE_BYTES || !isUtf8(line)) return null;
  const members = new Map<string, Span>();
  const inner: { key: string; start: number }[] = [];
  const isJson = scanJson(line, 2, (depth, keyStart, keyEnd, start, end) => {
    const key = keyAt(line, keyStart, keyEnd);
    if (depth === 1) members.set(key, { start, end });
    else inner.push({ key, start });
  });
  const id = members.get("id"), result = members.get("result");
  if (!isJson || !id || !result || line[result.start] !== OPEN_OBJECT) return null;
  // Of any other member somebody else has to know what it means.
  if (members.size > (members.has("jsonrpc") ? 3 : 2)) return null;
  const keys = new Set<string>();
  for (const { key, start } of inner) {
    if (start > result.start && start < result.end) keys.add(key);
  }
  return {
    kind: "large",
    id: JSON.parse(decoded(line.subarray(id.start, id.end))),
    result: line.subarray(result.start, result.end),
    keys,
  };
}

const OPEN_OBJECT = 0x7b;

/**
 * A response with a large result, which is made text or values when somebody reads them. Use {@link with}, not
 * a spread, for another id: a spread has only what is not made yet.
 */
export class LargeResponse implements JsonRpcResponse {
  readonly jsonrpc = "2.0";
  #text: string | null = null;
  #result: Record<string, unknown> | null = null;

  constructor(
    readonly id: JsonRpcId,
    /** The bytes of the object that `result` is, one part after the other. */
    readonly parts: Uint8Array<ArrayBufferLike>[],
    /** Of the result. */
    readonly keys: ReadonlySet<string>,
  ) {}

  get text(): string {
    return this.#text ??= decoded(joined(this.parts));
  }

  get result(): Record<string, unknown> {
    return this.#result ??= JSON.parse(this.text);
  }

  /** The same response to another id, with those of `defaults` that the result does not have before all others. */
  with(id: JsonRpcId, defaults: Record<string, unknown>): LargeResponse {
    const added = Object.entries(defaults).filter(([key]) => !this.keys.has(key));
    if (added.length === 0) return new LargeResponse(id, this.parts, this.keys);
    const head = `${JSON.stringify(Object.fromEntries(added)).slice(0, -1)},`;
    const [first, ...others] = this.parts;
    return new LargeResponse(
      id,
      [new TextEncoder().encode(head), first.subarray(1), ...others],
      new Set([...added.map(([key]) => key), ...this.keys]),
    );
  }
}
