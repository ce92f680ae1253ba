/** From the bridge to the toolbox that runs a server: one signed HTTP request per call. */
import {
  ErrorCode,
  FRAME_LIMIT_BYTES,
  objectMembers,
  type SigningKey,
  signRequest,
} from "../dtma/protocol.ts";

/** A call's end: the text of its `result` or of its `error`, as the server wrote it. */
export interface Answer {
  kind: "result" | "error";
  text: string;
}

export interface CallOptions {
  signal?: AbortSignal;
  /** Told each notification that comes before the answer, as one line of JSON. */
  onNotification?: (text: string) => void;
}

/**
 * Sends one request of the waist to a server's toolbox.
 *
 * Never throws but when `options.signal` aborts: what goes wrong on the way is an {@link Answer} with
 * an error of {@link ErrorCode}. A request that surely was not served is `serverUnavailable`; one
 * that may have been is `indeterminate`, and must not be repeated by itself.
 *
 * @param target the toolbox's data path and the server there
 * @param body the JSON-RPC request's text
 */
export async function callServer(
  appSigningKey: SigningKey,
  target: { address: string; serverId: string },
  body: string,
  options: CallOptions = {},
): Promise<Answer> {
  const url = new URL(`/mcp/${target.serverId}`, target.address);
  const bytes = new TextEncoder().encode(body);
  const signed = signRequest(
    { method: "POST", url, body: bytes },
    { keyId: "app", privateKey: appSigningKey.privateKey },
  );
  let response: Response;
  try {
    response = await fetch(url, {
      method: "POST",
      headers: {
        ...signed,
        "content-type": "application/json",
        accept: "application/json, text/event-stream",
      },
      body: bytes,
      redirect: "error",
      signal: options.signal,
    });
  } catch (error) {
    options.signal?.throwIfAborted();
    return wasNeverSent(error)
      ? failure(
        ErrorCode.serverUnavailable,
        "The server's toolbox does not answer, so the call was not made",
      )
      : failure(
        ErrorCode.indeterminate,
        "The connection to the toolbox broke: the call may have run",
      );
  }
  try {
    const isStream = response.headers.get("content-type")?.startsWith("text/event-stream");
    const text = isStream
      ? await lastMessage(response.body!, options.onNotification)
      : await limitedText(response.body);
    return answerIn(text, response.status);
  } catch (error) {
    options.signal?.throwIfAborted();
    if (error instanceof RangeError) return failure(ErrorCode.answerTooLarge, error.message);
    return failure(
      ErrorCode.indeterminate,
      "The toolbox's answer broke off: the call may have run",
    );
  }
}

/** Whether the request cannot have reached the toolbox: no connection was made. */
function wasNeverSent(error: unknown): boolean {
  return /tcp connect|connect error|connection refused|dns error/i.test(describe(error));
}

function describe(error: unknown): string {
  return error instanceof Error ? `${error.message} ${describe(error.cause ?? "")}` : String(error);
}

function answerIn(text: string, status: number): Answer {
  let members: Map<string, string>;
  try {
    JSON.parse(text);
    members = objectMembers(text);
  } catch {
    members = new Map();
  }
  for (const kind of ["result", "error"] as const) {
    const value = members.get(kind);
    if (value !== undefined) return { kind, text: value };
  }
  return status === 401 || status === 403
    ? failure(
      ErrorCode.serverUnavailable,
      "The toolbox refused the app's signature, so the call was not made. Check that both clocks are right",
    )
    : failure(
      ErrorCode.serverUnavailable,
      `The toolbox answered ${status}, so the call was not made`,
    );
}

function failure(code: number, message: string): Answer {
  return { kind: "error", text: JSON.stringify({ code, message }) };
}

/** Reads a stream of server-sent events to its last message, which is the response. */
async function lastMessage(
  body: ReadableStream<Uint8Array<ArrayBuffer>>,
  onNotification: ((text: string) => void) | undefined,
): Promise<string> {
  let buffer = "";
  for await (const chunk of body.pipeThrough(new TextDecoderStream())) {
    buffer += chunk;
    for (let end; (end = buffer.indexOf("\n\n")) >= 0; buffer = buffer.slice(end + 2)) {
      const data = buffer.slice(0, end).split("\n").filter((line) => line.startsWith("data:"))
        .map((line) => line.slice(5).replace(/^ /, "")).join("\n");
      if (!data) continue;
      const members = objectMembers(data);
      if (members.has("result") || members.has("error")) return data;
      onNotification?.(data);
    }
    if (buffer.length > ANSWER_LIMIT) throw tooLarge();
  }
  throw new Error("The stream ended without a response");
}

async function limitedText(body: ReadableStream<Uint8Array<ArrayBuffer>> | null): Promise<string> {
  let text = "";
  for await (const chunk of body?.pipeThrough(new TextDecoderStream()) ?? []) {
    text += chunk;
    if (text.length > ANSWER_LIMIT) throw tooLarge();
  }
  return text;
}

/** A frame and what the envelope adds to it. */
const ANSWER_LIMIT = FRAME_LIMIT_BYTES + 64 * 1024;

function tooLarge(): RangeError {
  return new RangeError(`The server's answer is over ${FRAME_LIMIT_BYTES / 1024 / 1024} MiB`);
}
