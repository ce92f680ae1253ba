/** What clients send: JSON-RPC messages, read with their limits and kept as they were written. */
import { boundedBody, DEPTH_LIMIT, FRAME_LIMIT_BYTES, objectMembers } from "../dtma/protocol.ts";
import { isObject, RpcCode, RpcError, shown } from "./revisions.ts";
import type { Answer } from "./router.ts";

/** A request: parsed for reading, with the text of `id` and `params` for passing on. */
export interface IncomingRequest {
  kind: "request";
  id: string | number;
  idText: string;
  method: string;
  params: Record<string, unknown>;
  paramsText: string;
  /** Why one of a batch cannot be read; its method is empty then. */
  refusal?: RpcError;
}

export interface IncomingNotification {
  kind: "notification";
  method: string;
  params: Record<string, unknown>;
  paramsText: string;
}

/** A client's response to a request of ours. */
export interface IncomingResponse {
  kind: "response";
  id: unknown;
  answer: Answer;
}

export type Incoming = IncomingRequest | IncomingNotification | IncomingResponse;

const UTF8 = new TextDecoder("utf-8", { fatal: true });

/** Messages in one batch, which 2025-03-26 alone has. */
const BATCH_LIMIT = 50;

/**
 * Reads a body of one message, or of a batch.
 *
 * @throws {RpcError} for what is over 4 MiB, no JSON in UTF-8, nested deeper than 64, has a key twice,
 *   or is no JSON-RPC 2.0
 */
export async function readMessages(
  request: Request,
): Promise<{ messages: Incoming[]; isBatch: boolean }> {
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = await boundedBody(request, FRAME_LIMIT_BYTES);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new RpcError(RpcCode.invalidRequest, "The message is over 4 MiB", 413);
  }
  return messagesIn(bytes);
}

/** @throws {RpcError} */
function messagesIn(bytes: Uint8Array<ArrayBuffer>): { messages: Incoming[]; isBatch: boolean } {
  let text: string, parsed: unknown;
  try {
    text = UTF8.decode(bytes);
    // Before anything recursive touches it.
    checkStructure(text);
    parsed = JSON.parse(text);
  } catch (error) {
    if (error instanceof RpcError) throw error;
    throw new RpcError(RpcCode.parseError, "The body is not JSON in UTF-8");
  }
  if (!Array.isArray(parsed)) return { messages: [messageIn(parsed, text)], isBatch: false };
  if (parsed.length === 0 || parsed.length > BATCH_LIMIT) {
    throw new RpcError(RpcCode.invalidRequest, `A batch holds 1 to ${BATCH_LIMIT} messages`);
  }
  const texts = arrayItems(text);
  const messages = parsed.map((item, index) => {
    try {
      return messageIn(item, texts[index]);
    } catch (error) {
      if (error instanceof RpcError) return unreadable(item, texts[index], error);
      throw error;
    }
  });
  return { messages, isBatch: true };
}

/** One of a batch that cannot be read is refused alone, by its id if it has one. */
function unreadable(value: unknown, text: string, refusal: RpcError): IncomingRequest {
  const id = isObject(value) ? value.id : null;
  const isId = typeof id === "string" || Number.isInteger(id);
  const idText = isId ? objectMembers(text).get("id")! : "null";
  return {
    kind: "request",
    id: isId ? id as string | number : "",
    idText,
    method: "",
    params: {},
    paramsText: "{}",
    refusal,
  };
}

/** @throws {RpcError} */
function messageIn(value: unknown, text: string): Incoming {
  if (!isObject(value) || value.jsonrpc !== "2.0") {
    throw new RpcError(RpcCode.invalidRequest, "The body is not a JSON-RPC 2.0 message");
  }
  const members = objectMembers(text);
  if (value.method === undefined && (value.result !== undefined || value.error !== undefined)) {
    const kind = value.result !== undefined ? "result" : "error";
    return { kind: "response", id: value.id, answer: { kind, text: members.get(kind)! } };
  }
  if (typeof value.method !== "string") {
    throw new RpcError(RpcCode.invalidRequest, "The message has no method");
  }
  const isRequest = value.id !== undefined;
  if (isRequest && typeof value.id !== "string" && !Number.isInteger(value.id)) {
    throw new RpcError(RpcCode.invalidRequest, "A request's id must be a string or an integer");
  }
  if (value.params !== undefined && !isObject(value.params)) {
    throw new RpcError(RpcCode.invalidRequest, "params must be an object");
  }
  const params = (value.params ?? {}) as Record<string, unknown>;
  if (params._meta !== undefined && !isObject(params._meta)) {
    throw new RpcError(RpcCode.invalidParams, "params._meta must be an object");
  }
  const common = { method: value.method, params, paramsText: members.get("params") ?? "{}" };
  return isRequest
    // Its id as it is written: an integer may be larger than JavaScript holds.
    ? { kind: "request", ...common, id: value.id as string | number, idText: members.get("id")! }
    : { kind: "notification", ...common };
}

/** The answer to a request. @param id its text */
export function envelope(id: string | null, { kind, text }: Answer): string {
  // An error without a readable id has none (2026-07-28) and null in JSON-RPC; both read null.
  return `{"jsonrpc":"2.0","id":${id},"${kind}":${text}}`;
}

/** A notification, or with an id a request of ours. */
export function messageText(method: string, paramsText: string, id?: string): string {
  const idMember = id === undefined ? "" : `"id":${JSON.stringify(id)},`;
  return `{"jsonrpc":"2.0",${idMember}"method":${JSON.stringify(method)},"params":${paramsText}}`;
}

const FEW_KEYS = 16;

const QUOTE = 0x22, COLON = 0x3a, SPACE = 0x20;
const OPEN_OBJECT = 0x7b, CLOSE_OBJECT = 0x7d, OPEN_ARRAY = 0x5b, CLOSE_ARRAY = 0x5d;

/**
 * Refuses what nests too deep, and objects with a key twice: of the two a server's parser may take the
 * one that was not checked here.
 */
function checkStructure(text: string): void {
  /** The keys of each object that is open; null for an array. */
  const open: (Keys | null)[] = [];
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case OPEN_OBJECT:
      case OPEN_ARRAY:
        open.push(text.charCodeAt(at) === OPEN_OBJECT ? new Keys() : null);
        if (open.length > DEPTH_LIMIT) {
          throw new RpcError(
            RpcCode.invalidRequest,
            `The message nests deeper than ${DEPTH_LIMIT} levels`,
          );
        }
        break;
      case CLOSE_OBJECT:
      case CLOSE_ARRAY:
        open.pop();
        break;
      case QUOTE: {
        const end = endOfString(text, at);
        const keys = open.length > 0 ? open[open.length - 1] : null;
        if (keys && isKey(text, end)) keys.add(text.slice(at + 1, end));
        at = end;
      }
    }
  }
}

/** A colon follows a key and no other string. @param end index of the string's last quote */
function isKey(text: string, end: number): boolean {
  let at = end + 1;
  while (text.charCodeAt(at) <= SPACE) at++;
  return text.charCodeAt(at) === COLON;
}

/** The keys of an object. Most have few, which are sooner looked through than put into a set. */
class Keys {
  #few: string[] = [];
  #many: Set<string> | null = null;

  /** @throws {RpcError} for one that is there */
  add(written: string): void {
    const key: string = written.includes("\\") ? JSON.parse(`"${written}"`) : written;
    if (this.#many ? this.#many.has(key) : this.#few.includes(key)) {
      throw new RpcError(RpcCode.invalidRequest, `The message has the key ${shown(key)} twice`);
    }
    if (this.#many) this.#many.add(key);
    else if (this.#few.push(key) === FEW_KEYS) this.#many = new Set(this.#few);
  }
}

/** The texts of an array's items. The text must be valid JSON. */
export function arrayItems(text: string): string[] {
  const items: string[] = [];
  let depth = 0, start = 0;
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (char === '"') at = endOfString(text, at);
    else if (char === "{" || char === "[") {
      if (depth++ === 0) start = at + 1;
    } else if (char === "}" || char === "]") {
      const last = --depth === 0 ? text.slice(start, at).trim() : "";
      if (last) items.push(last);
    } else if (char === "," && depth === 1) {
      items.push(text.slice(start, at).trim());
      start = at + 1;
    }
  }
  return items;
}

/** Index of the quote that ends the string which begins at `start`; the text's end without one. */
function endOfString(text: string, start: number): number {
  for (let end = start;;) {
    end = text.indexOf('"', end + 1);
    if (end < 0) return text.length;
    let backslashes = 0;
    while (text[end - 1 - backslashes] === "\\") backslashes++;
    if (backslashes % 2 === 0) return end;
  }
}
