/** Reads server-sent events (WHATWG HTML, server-sent events) with a bound on what one may hold. */

export interface ServerSentEvent {
  /** `message` where the stream does not say another. */
  type: string;
  data: string;
  /** The last id that the stream gave, for `Last-Event-ID`; null when it gave none. */
  id: string | null;
  /** How long to wait before the next connection, in milliseconds, when the stream says so. */
  retryMs: number | null;
}

/**
 * The events of a body, in order, and with empty data those that tell an id or a time to wait alone. Ends when
 * the body does; an event that is cut off is not given.
 * @throws {RangeError} when an event is longer than `limit` characters
 */
export async function* eventsOf(
  body: ReadableStream<Uint8Array>,
  limit: number,
): AsyncGenerator<ServerSentEvent> {
  let type = "message", data: string[] = [], length = 0;
  let id: string | null = null, retryMs: number | null = null, isToldMore = false;
  for await (const line of linesOf(body, limit)) {
    if (line === "") {
      if (data.length > 0) yield { type, data: data.join("\n"), id, retryMs };
      else if (isToldMore) yield { type: "message", data: "", id, retryMs };
      [type, data, length, isToldMore] = ["message", [], 0, false];
      continue;
    }
    const [, field, value = ""] = /^([^:]*)(?:: ?(.*))?$/s.exec(line)!;
    if (field === "data") {
      data.push(value);
      length += value.length;
      if (length > limit) throw new RangeError("An event is too long");
    } else if (field === "event") type = value || "message";
    else if (field === "id" && !value.includes("\0")) [id, isToldMore] = [value, true];
    else if (field === "retry" && /^\d{1,7}$/.test(value)) {
      [retryMs, isToldMore] = [Number(value), true];
    }
  }
}

/** Lines end with LF, CRLF or CR. Each character is looked at once. */
async function* linesOf(
  body: ReadableStream<Uint8Array>,
  limit: number,
): AsyncGenerator<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let line = "", held = "";
  for await (const chunk of body) {
    const text = held + decoder.decode(chunk, { stream: true });
    // A CR at the end may be half of a CRLF.
    held = text.endsWith("\r") ? "\r" : "";
    const [first, ...rest] = text.slice(0, text.length - held.length).split(/\r\n|\r|\n/);
    line += first;
    for (const next of rest) {
      yield line;
      line = next;
    }
    if (line.length > limit) throw new RangeError("An event is too long");
  }
  if (held) yield line;
}
