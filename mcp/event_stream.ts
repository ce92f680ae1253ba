/** Server-sent events on web streams: how messages come to a client before and without an answer. */

/** How often a quiet stream says that it lives, in milliseconds. */
const PING_MS = 15_000;
/** What a client that does not read leaves unread before what may be dropped is. */
const UNREAD_LIMIT_BYTES = 1024 * 1024;

export interface StreamEvent {
  /** By which a client asks for what comes after; none where that cannot be asked for. */
  id?: string;
  /** `message` but for the few that are none. */
  type?: string;
  /** How long a client waits before it asks for the rest of a stream that ended early. */
  retryMs?: number;
  /** Without line breaks, or such as stand between JSON's tokens alone. */
  data: string;
}

export interface EventStream {
  response: Response;
  /** Aborted when the client goes away, and when the stream is closed. */
  gone: AbortSignal;
  /** @returns false when it was dropped since the client does not read, or has gone */
  send(event: StreamEvent, mayBeDropped?: boolean): boolean;
  /** Ends the stream in good order. */
  close(): void;
}

/**
 * Opens an event stream.
 *
 * @param onGone told once when the client went away before {@link EventStream.close}, or before it took
 *   all that was sent
 */
export function openEventStream(
  { onGone = () => {}, headers = {} }: {
    onGone?: () => void;
    headers?: Record<string, string>;
  } = {},
): EventStream {
  const over = new AbortController();
  const encoder = new TextEncoder();
  let controller!: ReadableStreamDefaultController<Uint8Array>;
  const body = new ReadableStream<Uint8Array>({
    start: (given) => void (controller = given),
    cancel() {
      end();
      onGone();
    },
  }, new ByteLengthQueuingStrategy({ highWaterMark: UNREAD_LIMIT_BYTES }));
  const ping = setInterval(() => write(": ping\n\n", true), PING_MS);

  function write(text: string, mayBeDropped: boolean): boolean {
    if (over.signal.aborted || mayBeDropped && controller.desiredSize! <= 0) return false;
    controller.enqueue(encoder.encode(text));
    return true;
  }

  function end() {
    clearInterval(ping);
    over.abort();
  }

  return {
    response: new Response(body, {
      headers: {
        ...headers,
        "content-type": "text/event-stream",
        "cache-control": "no-store",
        "x-accel-buffering": "no",
      },
    }),
    gone: over.signal,
    send({ id, type = "message", retryMs, data }, mayBeDropped = false) {
      const idLine = (id === undefined ? "" : `id: ${id}\n`) +
        (retryMs === undefined ? "" : `retry: ${retryMs}\n`);
      // A line break, which in JSON stands between tokens alone, would end the event's data.
      const line = data.replace(/[\r\n]/g, " ");
      return write(`${idLine}event: ${type}\ndata: ${line}\n\n`, mayBeDropped);
    },
    close() {
      if (over.signal.aborted) return;
      end();
      controller.close();
    },
  };
}

/**
 * A stream of messages that ends when `work` does; the client's leaving aborts the work. Work that fails
 * leaves a stream without an answer.
 */
export function streamResponse(
  gone: AbortSignal,
  work: (
    send: (text: string, mayBeDropped?: boolean) => void,
    signal: AbortSignal,
  ) => Promise<void>,
): Response {
  const stream = openEventStream();
  work(
    (text, mayBeDropped) => stream.send({ data: text }, mayBeDropped),
    AbortSignal.any([gone, stream.gone]),
  ).catch(() => {}).finally(() => stream.close());
  return stream.response;
}
