/**
 * One WebSocket that carries many calls at once, between an app and a toolbox's DTMA. Whoever can
 * reach the other dials (`direct`: the app; `tunnel`: DTMA); in both cases the app calls and DTMA
 * serves, in the same frames. Authentication of the dialler is the upgrade request's signature; what
 * is here is a hello of both sides, then frames.
 *
 * A WebSocket text message holds one or more frames, each `KIND STREAM , LENGTH : PAYLOAD` without
 * spaces, numbers in base 36, lengths in UTF-16 code units:
 *
 * | kind | from | payload |
 * | --- | --- | --- |
 * | `h` hello | both, first | JSON: protocol version, clock, challenge of the dialler or proof of the other, whether `r` is taken |
 * | `o` open | app | JSON `[serverId, instance]`, a line feed, the JSON-RPC request |
 * | `n` notification | DTMA | a JSON-RPC notification of the stream's call |
 * | `a` answer | DTMA | the JSON-RPC response, which ends the stream |
 * | `r` result | DTMA | in place of an answer: the bytes of its `result`, in a binary message |
 * | `f` failure | DTMA | JSON `[mayHaveRun, reason]`, in place of an answer: ends the stream |
 * | `c` cancel | app | none; ends the stream |
 * | `w` window | both | so many units may follow on the stream, or on the whole link for stream 0 |
 * | `p`, `q` ping, pong | both | a number of the ping, and the pong's clock |
 * | `e` end | both | opens come to nothing from now on; the link closes after the last stream |
 *
 * MCP's messages pass as text, unchanged. One over {@link PIECE} goes in pieces, of which all but the
 * last have their kind in upper case, so that a large answer does not hold up others. A large result may
 * come as the bytes that its server wrote, to an app that said so: a WebSocket binary message holds one
 * such frame, whose length is in bytes. Only `o`, `n`, `a` and `r` use up a window. A stream's window is given back as its reader takes what came, the link's
 * as it arrives: a reader that does not read stops its own stream and no other.
 *
 * Runs on an edge isolate too; who dials or accepts brings the socket.
 */
import { setImmediate } from "node:timers";
import { BriefMap } from "./brief_map.ts";
import { BriefSignal, type CallSignal } from "./call_signal.ts";
import { joined, lengthOf } from "./json_bytes.ts";

/** Longest piece of a message in one frame, in UTF-16 code units. */
export const PIECE = 64 * 1024;
/** What may be under way unread on one stream, and on a link: a large answer's head start on others. */
const STREAM_WINDOW = 256 * 1024;
const LINK_WINDOW = 512 * 1024;
/** Windows are given back in steps, so that few frames are spent on it. */
const GRANT = 128 * 1024, LINK_GRANT = 256 * 1024;

/** Longest message that is put together: a frame of 4 MiB and what its envelope adds. */
const MESSAGE_LIMIT = 4 * 1024 * 1024 + 64 * 1024;
/** Messages half received in sum, over which only the one begun first goes on. */
const HALVES_LIMIT = 64 * 1024 * 1024;
/** What waits to be sent in sum, over which no further call is taken. */
const QUEUE_LIMIT = 64 * 1024 * 1024;
/** What waits of one stream, over which progress is dropped: it is out of date before it is read. */
const UNREAD_LIMIT = 1024 * 1024;
/**
 * What a connection may hold back. Windows keep it far below; a peer that asks for pongs and grants
 * without end and reads none of them does not.
 */
const UNSENT_LIMIT_BYTES = 16 * 1024 * 1024;
const STREAMS_LIMIT = 4096;
/** With so many calls under way others are likely to come in the same turn of the event loop. */
const BUSY = 4;

const HELLO_TIMEOUT_MS = 10_000;
const PING_EVERY_MS = 10_000;
/** A peer that is silent for so long is gone, whatever TCP thinks (half-open connection). */
const DEAD_AFTER_MS = 25_000;
/** Round trips that are remembered: the fastest of them tells the clocks' offset best (RFC 5905). */
const SAMPLES = 8;

/** What the app proves to a DTMA that dialled it: that it is the app, for this toolbox. */
export function tunnelPurpose(toolboxId: string): string {
  return `link of toolbox ${toolboxId}`;
}

/** A WebSocket as a link needs it. `send` queues. */
export interface LinkSocket {
  /** A text message, or a binary one, whose bytes are not used any more when it returns. */
  send(message: string | Uint8Array<ArrayBuffer>): void;
  /** Bytes that were sent and that the connection has not taken. */
  readonly unsent: number;
  close(code: number, reason: string): void;
  onMessage: ((text: string) => void) | null;
  /** The bytes are the socket's again when it returns. */
  onBytes: ((bytes: Uint8Array) => void) | null;
  /** Called once, with a reason for a person, however the connection ended. */
  onClose: ((reason: string) => void) | null;
}

/** A link was not made, or a call on it has no answer. */
export class LinkError extends Error {
  override name = "LinkError";
  constructor(
    message: string,
    /** The server may have been given the call. */
    readonly mayHaveRun = false,
    /** The other side itself refused to make a link: another try will end alike. */
    readonly isRefusal = false,
  ) {
    super(message);
  }
}

/** A call as the serving side gets it. */
export interface LinkCall {
  serverId: string;
  instance: string | null;
  /** The JSON-RPC request. */
  text: string;
  /** Aborted when the caller cancels or the link is lost. */
  signal: CallSignal;
  /** The answer may be the bytes of a result. */
  takesResultBytes?: boolean;
  notify(text: string): void;
}

/** A JSON-RPC response's text; or of one that is a result, the bytes of that, one part after the other. */
export type LinkAnswer = string | Uint8Array[];

export interface LinkOptions {
  /** {@link PROTOCOL_VERSION} of this side. */
  version: number;
  /** What the two sides are called in messages, such as `the app`. */
  self: string;
  peer: string;
  /**
   * Serves a call: its answer. Rejects only when the call's signal is aborted; any other
   * rejection reaches the caller as a call that may have run.
   */
  serve?: (call: LinkCall) => Promise<LinkAnswer>;
  /** The acceptor's proof over the dialler's challenge, and the dialler's check of it. */
  prove?: (challenge: string) => string;
  isProof?: (challenge: string, proof: string) => boolean;
  pingEveryMs?: number;
  deadAfterMs?: number;
}

/** Where a call goes: the server, and whose instance of it (null for the shared one). */
export interface LinkTarget {
  serverId: string;
  instance: string | null;
}

export interface LinkCallOptions {
  signal?: CallSignal;
  /** Told each notification in order. While a returned promise is pending the server is held back. */
  onNotification?: (text: string) => unknown;
  /** It has no end of its own: a link that ends does not wait for it. */
  endsWithLink?: boolean;
}

interface Hello {
  version: number;
  /** Unix time in milliseconds. */
  time: number;
  challenge?: string;
  proof?: string;
  /** Large results may come as bytes, in frames of the kind `r`. */
  takesResultBytes?: boolean;
}

/** Makes a link over a socket that was dialled. @throws {LinkError} */
export async function dialledLink(socket: LinkSocket, options: LinkOptions): Promise<Link> {
  return await handshake(socket, options, true);
}

/** Makes a link over a socket that was accepted, whose dialler is known. @throws {LinkError} */
export async function acceptedLink(socket: LinkSocket, options: LinkOptions): Promise<Link> {
  return await handshake(socket, options, false);
}

/** A WebSocket of `Deno.upgradeWebSocket` as a link's. Make the link before the next event loop turn. */
export function linkSocket(socket: WebSocket): LinkSocket {
  const adapted: LinkSocket = {
    // A socket that closes meanwhile throws: its close event tells the link.
    send: (message) => socket.readyState === WebSocket.OPEN && socket.send(message),
    get unsent() {
      return socket.bufferedAmount;
    },
    close: (code, reason) => {
      // Longer reasons are refused (RFC 6455 section 5.5: 125 bytes with the code).
      const shortened = new TextDecoder().decode(new TextEncoder().encode(reason).slice(0, 120));
      socket.close(code, shortened.replace(/\uFFFD$/, ""));
    },
    onMessage: null,
    onBytes: null,
    onClose: null,
  };
  let failure = "";
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => {
    if (typeof data === "string") adapted.onMessage?.(data);
    else adapted.onBytes?.(new Uint8Array(data));
  };
  socket.onerror = (event) => failure = (event as ErrorEvent).message ?? "";
  socket.onclose = ({ reason, code }) =>
    adapted.onClose?.(reason || failure || `the connection was closed (${code})`);
  return adapted;
}

/** Close codes of our own (RFC 6455 section 7.4.2). */
const CLOSED = 4000, BROKEN = 4400, REFUSED = 4403, SILENT = 4408, OTHER_VERSION = 4426;

function handshake(socket: LinkSocket, options: LinkOptions, dialled: boolean): Promise<Link> {
  const { version, self, peer } = options;
  const { promise, resolve, reject } = Promise.withResolvers<Link>();
  const challenge = dialled && options.isProof ? randomText() : undefined;
  const sentAt = performance.now(), sentTime = Date.now();
  const timer = setTimeout(() => fail(`${peer} did not say hello`, SILENT), HELLO_TIMEOUT_MS);

  function fail(reason: string, code: number, isRefusal = false): void {
    clearTimeout(timer);
    socket.onMessage = socket.onClose = null;
    socket.close(code, reason);
    reject(new LinkError(reason, false, isRefusal));
  }
  const say = (hello: Hello) => {
    // A side that serves is sent no results.
    const text = JSON.stringify({ ...hello, takesResultBytes: !options.serve });
    socket.send(frame("h", 0, text));
  };
  socket.onClose = (reason) => {
    clearTimeout(timer);
    reject(new LinkError(reason));
  };
  socket.onMessage = (text) => {
    const hello = helloIn(text);
    if (!hello) return fail(`${peer} spoke something else than this protocol`, BROKEN);
    if (!dialled) {
      const proof = hello.challenge === undefined ? undefined : options.prove?.(hello.challenge);
      say({ version, time: Date.now(), proof });
    }
    if (hello.version !== version) {
      const older = hello.version < version ? peer : self;
      const told = `${peer} speaks version ${hello.version} of the protocol, ${self} version ` +
        `${version}: upgrade ${older}`;
      return fail(told, OTHER_VERSION, true);
    }
    if (challenge && !options.isProof!(challenge, hello.proof ?? "")) {
      return fail(`${peer} did not prove with its key that it is ${peer}`, REFUSED, true);
    }
    clearTimeout(timer);
    const link = new Link(socket, options, hello.takesResultBytes);
    if (dialled) link.measured(performance.now() - sentAt, sentTime, hello.time);
    resolve(link);
  };
  if (dialled) say({ version, time: sentTime, challenge });
  return promise;
}

function helloIn(text: string): Hello | null {
  const [, length, json] = /^h0,([0-9a-z]+):(.*)$/s.exec(text) ?? [];
  if (json === undefined || parseInt(length, 36) !== json.length || json.length > 4096) return null;
  try {
    const { version, time, challenge, proof, takesResultBytes } = JSON.parse(json);
    const isText = (value: unknown) => value === undefined || typeof value === "string";
    return Number.isInteger(version) && Number.isFinite(time) && isText(challenge) && isText(proof)
      ? { version, time, challenge, proof, takesResultBytes: takesResultBytes === true }
      : null;
  } catch {
    return null;
  }
}

function frame(kind: string, stream: number, payload: string): string {
  return `${headOf(kind, stream, payload.length)}${payload}`;
}

function headOf(kind: string, stream: number, length: number): string {
  return `${kind}${stream.toString(36)},${length.toString(36)}:`;
}

const HEAD = /([A-Za-z])([0-9a-z]{1,9}),([0-9a-z]{1,6}):/y;
/** Longest head, in characters and bytes. */
const HEAD_LENGTH = 18;

/** One call under way, on either side. */
class Stream {
  /** Messages to be sent, the first of them from `sent` on. */
  queue: { kind: string; payload: string | ByteReader; length: number }[] = [];
  sent = 0;
  queued = 0;
  /** It stands in the link's queue. */
  isReady = false;
  /** What the peer lets us send. */
  window = STREAM_WINDOW;
  /** What was taken and not yet given back to the peer's window. */
  owed = 0;
  /** The message that is being received. */
  pieces: (string | Uint8Array)[] = [];
  received = 0;
  /** The whole request was handed to the socket. */
  wasOpened = false;
  /** The peer may send all that a message can be. */
  isGranted = false;
  /** Refused: what still comes of its request is not for anybody. */
  isDeaf = false;
  /** Where the call is served. */
  served: ServedCall | null = null;

  constructor(
    readonly id: number,
    /** Where the call was made. */
    readonly caller: Caller | null = null,
  ) {}
}

/** Who waits for the answer to a call. */
interface Caller {
  options: LinkCallOptions;
  resolve: (answer: string | Uint8Array<ArrayBuffer>) => void;
  reject: (error: unknown) => void;
  stop: () => void;
}

class ServedCall implements LinkCall {
  readonly signal = new BriefSignal();
  readonly serverId: string;
  readonly instance: string | null;

  constructor(
    { serverId, instance }: LinkTarget,
    readonly text: string,
    readonly takesResultBytes: boolean,
    readonly notify: (text: string) => void,
  ) {
    this.serverId = serverId;
    this.instance = instance;
  }
}

/** An open link. The app calls; DTMA serves. */
export class Link {
  /** Resolves with the reason when the link is over. */
  readonly closed: Promise<string>;
  /** Resolves when no more calls can be made: it is being ended, or it is over. */
  readonly ending: Promise<void>;
  readonly #socket: LinkSocket;
  readonly #options: LinkOptions;
  readonly #streams = new BriefMap<number, Stream>();
  /** Streams with something to send that their window lets pass, in turn; and some that are over. */
  #ready: Stream[] = [];
  /** Streams in the midst of receiving a message of several pieces, the one begun first in front. */
  readonly #halves = new Set<Stream>();
  readonly #pinging: ReturnType<typeof setInterval>;
  #halvesLength = 0;
  #queued = 0;
  #control = "";
  #window = LINK_WINDOW;
  #owed = 0;
  #lastId = 0;
  #isScheduled = false;
  #heardAt = performance.now();
  #lookedAt = performance.now();
  #usedAt = performance.now();
  #pings = 0;
  #ping: { number: number; at: number; time: number } | null = null;
  #samples: { roundTripMs: number; offsetMs: number }[] = [];
  #saidEnd = false;
  #heardEnd = false;
  #over: string | null = null;
  #resolveClosed!: (reason: string) => void;
  #resolveEnding!: () => void;

  /** After the hello: see {@link dialledLink} and {@link acceptedLink}. */
  constructor(
    socket: LinkSocket,
    options: LinkOptions,
    /** The peer said that it takes them. */
    readonly takesResultBytes = false,
  ) {
    this.#socket = socket;
    this.#options = options;
    this.closed = new Promise((resolve) => this.#resolveClosed = resolve);
    this.ending = new Promise((resolve) => this.#resolveEnding = resolve);
    socket.onMessage = (text) => this.#receive(text);
    socket.onBytes = (bytes) => this.#receiveBytes(bytes);
    socket.onClose = (reason) => this.#end(reason);
    const { pingEveryMs = PING_EVERY_MS, deadAfterMs = DEAD_AFTER_MS } = options;
    this.#pinging = setInterval(() => this.#keepAlive(pingEveryMs, deadAfterMs), pingEveryMs);
    this.#sendPing();
  }

  /** Whether a call can be made now. */
  get isOpen(): boolean {
    return this.#over === null && !this.#isEnding();
  }

  /** Calls under way. */
  get inFlight(): number {
    return this.#streams.size;
  }

  /** Milliseconds since a call was last begun or under way. */
  get idleMs(): number {
    return this.#streams.size > 0 ? 0 : performance.now() - this.#usedAt;
  }

  /** The fastest of the last round trips; null before the first. */
  get roundTripMs(): number | null {
    return this.#best()?.roundTripMs ?? null;
  }

  /** The peer's clock less ours, in milliseconds, true to half a round trip; null before the first. */
  get clockOffsetMs(): number | null {
    return this.#best()?.offsetMs ?? null;
  }

  /**
   * Makes a call: the JSON-RPC response's text, or the bytes of its result.
   * @throws {LinkError} when there will be no answer; `mayHaveRun` says whether the call may have run
   * @throws {RangeError} when the answer is over the limit of a frame
   * @throws the signal's reason
   */
  call(
    target: LinkTarget,
    text: string,
    options: LinkCallOptions = {},
  ): Promise<string | Uint8Array<ArrayBuffer>> {
    const { signal } = options;
    if (signal?.aborted) return Promise.reject(signal.reason);
    const refusal = this.#over ?? (this.#isEnding() ? "The link is being closed" : null) ??
      (this.#isFull() ? "Too much waits to be sent" : null);
    if (refusal !== null) return Promise.reject(new LinkError(refusal));
    const { promise, resolve, reject } = Promise.withResolvers<string | Uint8Array<ArrayBuffer>>();
    const stop = () => {
      this.#cancel(stream);
      reject(signal!.reason);
    };
    const stream = new Stream(++this.#lastId, { options, resolve, reject, stop });
    this.#streams.set(stream.id, stream);
    signal?.addEventListener("abort", stop, { once: true });
    this.#send(stream, "o", `${JSON.stringify([target.serverId, target.instance])}\n${text}`);
    return promise;
  }

  /**
   * Ends the link when the calls under way are done, or after `timeoutMs`: takes and makes no more.
   * Resolves when it is closed.
   */
  async end(reason: string, timeoutMs = 30_000): Promise<void> {
    if (this.#over === null) this.#sayEnd();
    const timer = setTimeout(() => this.close(reason), timeoutMs);
    await this.closed;
    clearTimeout(timer);
  }

  /** Closes the link at once. Calls under way fail here and are cancelled there. */
  close(reason: string): void {
    this.#close(CLOSED, reason);
  }

  /** Takes a round trip for the clocks' offset: when it began here, and the peer's time in it. */
  measured(roundTripMs: number, sentTime: number, peerTime: number): void {
    const offsetMs = peerTime - (sentTime + roundTripMs / 2);
    this.#samples.push({ roundTripMs, offsetMs });
    if (this.#samples.length > SAMPLES) this.#samples.shift();
  }

  #best() {
    return this.#samples.reduce<{ roundTripMs: number; offsetMs: number } | null>(
      (best, each) => !best || each.roundTripMs < best.roundTripMs ? each : best,
      null,
    );
  }

  #isFull(): boolean {
    return this.#queued > QUEUE_LIMIT || this.#streams.size >= STREAMS_LIMIT;
  }

  /** Gives a stream up, and says so to the peer if it was told of it. */
  #cancel(stream: Stream): void {
    const wasTold = stream.wasOpened || stream.sent > 0;
    this.#remove(stream);
    if (wasTold) this.#say("c", stream.id, "");
  }

  #remove(stream: Stream): void {
    if (!this.#streams.delete(stream.id)) return;
    if (this.#streams.size === 0) this.#usedAt = performance.now();
    this.#queued -= stream.queued;
    stream.queue = [];
    this.#forgetHalf(stream);
    if (this.#isEnding()) this.#schedule();
  }

  #isEnding(): boolean {
    return this.#saidEnd || this.#heardEnd;
  }

  /** Both say it: then what the other had sent before is known to have come. */
  #sayEnd(): void {
    if (this.#saidEnd) return;
    this.#saidEnd = true;
    this.#resolveEnding();
    for (const stream of [...this.#streams.values()]) {
      if (!stream.caller?.options.endsWithLink) continue;
      this.#cancel(stream);
      this.#lost(stream, "The link is being closed");
    }
    this.#say("e", 0, "");
  }

  // ── Sending ────────────────────────────────────────────────────────────────────────────────────

  #send(stream: Stream, kind: string, payload: string | ByteReader): void {
    const { length } = payload;
    stream.queue.push({ kind, payload, length });
    stream.queued += length;
    this.#queued += length;
    this.#makeReady(stream);
    this.#schedule();
  }

  #makeReady(stream: Stream): void {
    if (stream.isReady || stream.queue.length === 0) return;
    stream.isReady = true;
    this.#ready.push(stream);
  }

  #say(kind: string, stream: number, payload: string): void {
    this.#control += frame(kind, stream, payload);
    this.#schedule();
  }

  /**
   * Frames of one turn go out in one message: a write to a socket costs 30 to 150 us, a frame one or
   * two. With few calls under way there is nothing to wait for.
   */
  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    if (this.#streams.size < BUSY) queueMicrotask(() => this.#flush());
    else setImmediate(() => this.#flush());
  }

  #flush(): void {
    this.#isScheduled = false;
    if (this.#over !== null) return;
    let message = this.#control;
    this.#control = "";
    const ready = this.#ready;
    let turn = 0;
    for (; turn < ready.length; turn++) {
      const stream = ready[turn];
      const isOver = stream.queue.length === 0;
      if (isOver) continue;
      const { kind, payload, length: whole } = stream.queue[0];
      const rest = whole - stream.sent;
      const most = Math.min(PIECE, stream.window, this.#window);
      const length = typeof payload === "string"
        ? pieceOf(payload, stream.sent, most)
        : Math.min(rest, Math.max(most, 0));
      if (length === 0 && rest > 0) {
        // Without a window of its own it waits for one; without the link's, all do.
        if (stream.window > 1) break;
        stream.isReady = false;
        continue;
      }
      const isLast = length === rest;
      const kindOfPiece = isLast ? kind : kind.toUpperCase();
      if (typeof payload === "string") {
        const piece = isLast && stream.sent === 0
          ? payload
          : payload.slice(stream.sent, stream.sent + length);
        message += frame(kindOfPiece, stream.id, piece);
      } else {
        // After what the stream sent before.
        if (message !== "") this.#socket.send(message);
        message = "";
        this.#socket.send(payload.piece(headOf(kindOfPiece, stream.id, length), length));
      }
      stream.window -= length;
      this.#window -= length;
      stream.queued -= length;
      this.#queued -= length;
      stream.isReady = false;
      if (isLast) {
        stream.queue.shift();
        stream.sent = 0;
        if (kind === "o") stream.wasOpened = true;
        if (kind === "a" || kind === "r" || kind === "f") this.#remove(stream);
      } else stream.sent += length;
      // To the back: the next piece after the others' turn.
      this.#makeReady(stream);
      if (message.length >= PIECE) {
        this.#socket.send(message);
        message = "";
      }
    }
    this.#ready = ready.slice(turn);
    if (message !== "") this.#socket.send(message);
    if (this.#socket.unsent > UNSENT_LIMIT_BYTES) {
      return this.#close(SILENT, `${this.#options.peer} does not read`);
    }
    if (this.#saidEnd && this.#heardEnd && this.#streams.size === 0) {
      this.#close(CLOSED, "the link was ended");
    }
  }

  // ── Receiving ──────────────────────────────────────────────────────────────────────────────────

  #receive(message: string): void {
    this.#heardAt = performance.now();
    for (let at = 0; at < message.length;) {
      if (this.#over !== null) return;
      HEAD.lastIndex = at;
      const head = HEAD.exec(message);
      if (!head) return this.#broken();
      const [{ length: headLength }, kind, stream, length] = head;
      const start = at + headLength;
      at = start + parseInt(length, 36);
      if (at > message.length) return this.#broken();
      this.#frame(kind, parseInt(stream, 36), message.slice(start, at));
    }
  }

  #receiveBytes(message: Uint8Array): void {
    this.#heardAt = performance.now();
    if (this.#over !== null) return;
    HEAD.lastIndex = 0;
    const head = HEAD.exec(String.fromCharCode(...message.subarray(0, HEAD_LENGTH)));
    if (!head) return this.#broken();
    const [{ length: headLength }, kind, stream, length] = head;
    const id = parseInt(stream, 36), end = headLength + parseInt(length, 36);
    const isResult = kind === "r" || kind === "R";
    if (!isResult || end !== message.length || this.#options.serve || id > this.#lastId) {
      return this.#broken();
    }
    // A copy, which a Buffer's `slice` is not.
    this.#data(id, kind, new Uint8Array(message.subarray(headLength)));
  }

  #frame(kind: string, id: number, payload: string): void {
    switch (kind) {
      case "w":
        return this.#widen(id, parseInt(payload, 36));
      case "p":
        return this.#say("q", 0, `${payload},${Date.now()}`);
      case "q":
        return this.#pong(payload);
      case "e":
        this.#heardEnd = true;
        this.#sayEnd();
        return this.#schedule();
      case "c":
        if (!this.#options.serve) return this.#broken();
        return this.#cancelled(this.#streams.get(id));
      case "o":
      case "O":
        if (!this.#options.serve) return this.#broken();
        if (id > this.#lastId) this.#accept(id);
        return this.#data(id, kind, payload);
      case "n":
      case "N":
      case "a":
      case "A":
      case "f":
      case "F":
        if (this.#options.serve || id > this.#lastId) return this.#broken();
        return this.#data(id, kind, payload);
      default:
        return this.#broken();
    }
  }

  #data(id: number, kind: string, payload: string | Uint8Array<ArrayBuffer>): void {
    this.#owed += payload.length;
    if (this.#owed >= LINK_GRANT) {
      this.#say("w", 0, this.#owed.toString(36));
      this.#owed = 0;
    }
    const stream = this.#streams.get(id);
    // Given up here while it was under way.
    if (!stream || stream.isDeaf) return;
    const isLast = kind >= "a";
    if (isLast && stream.received === 0) return this.#whole(stream, kind, payload, payload.length);
    stream.received += payload.length;
    if (stream.received > MESSAGE_LIMIT) return this.#overflow(stream);
    stream.pieces.push(payload);
    this.#halves.add(stream);
    this.#halvesLength += payload.length;
    if (!isLast) {
      stream.owed += payload.length;
      return kind === "R" ? this.#grantResult(stream) : this.#grantHalf(stream);
    }
    const whole = wholeOf(stream.pieces);
    this.#forgetHalf(stream);
    if (whole === null) return this.#broken();
    this.#whole(stream, kind, whole, payload.length);
  }

  #whole(
    stream: Stream,
    kind: string,
    payload: string | Uint8Array<ArrayBuffer>,
    owed: number,
  ): void {
    // Bytes are results, which are an answer: see #receiveBytes and #frame.
    const taken = stream.caller
      ? this.#answered(stream, stream.caller, kind, payload)
      : this.#serve(stream, payload as string);
    if (!(taken instanceof Promise)) return this.#grant(stream, owed);
    taken.then(() => this.#grant(stream, owed), () => this.#grant(stream, owed));
  }

  #grant(stream: Stream, length: number): void {
    stream.owed += length;
    if (stream.owed < GRANT || !this.#streams.get(stream.id)) return;
    this.#say("w", stream.id, stream.owed.toString(36));
    stream.owed = 0;
  }

  /** Many half messages at once must not fill the memory: then they go on one by one. */
  #grantHalf(stream: Stream): void {
    const [first] = this.#halves;
    if (this.#halvesLength <= HALVES_LIMIT || stream === first) this.#grant(stream, 0);
  }

  /** A result is the last of its stream: its whole window is given at once, where there is room for all of it. */
  #grantResult(stream: Stream): void {
    if (stream.isGranted) return;
    if (this.#halves.size > HALVES_LIMIT / MESSAGE_LIMIT) return this.#grantHalf(stream);
    stream.isGranted = true;
    this.#say("w", stream.id, MESSAGE_LIMIT.toString(36));
  }

  #forgetHalf(stream: Stream): void {
    if (!this.#halves.delete(stream)) return;
    this.#halvesLength -= stream.pieces.reduce((sum, { length }) => sum + length, 0);
    stream.pieces = [];
    stream.received = 0;
    for (const other of this.#halves) this.#grantHalf(other);
  }

  #widen(id: number, units: number): void {
    if (!(units > 0 && units <= MESSAGE_LIMIT)) return this.#broken();
    if (id === 0) this.#window += units;
    const stream = this.#streams.get(id);
    if (stream) {
      stream.window += units;
      this.#makeReady(stream);
    }
    if (this.#ready.length > 0) this.#schedule();
  }

  // ── What becomes of a call ─────────────────────────────────────────────────────────────────────

  #answered(
    stream: Stream,
    caller: Caller,
    kind: string,
    payload: string | Uint8Array<ArrayBuffer>,
  ): unknown {
    if (kind === "n") return caller.options.onNotification?.(payload as string);
    this.#settled(stream, caller);
    if (kind === "f") caller.reject(failureIn(payload as string));
    else caller.resolve(payload);
  }

  #settled(stream: Stream, { options, stop }: Caller): void {
    options.signal?.removeEventListener("abort", stop);
    this.#remove(stream);
  }

  /** A message over the limit comes in. */
  #overflow(stream: Stream): void {
    const { caller } = stream;
    if (!caller) return this.#fail(stream, false, "The request is too long");
    this.#cancel(stream);
    this.#settled(stream, caller);
    caller.reject(new RangeError("The answer is too long"));
  }

  #cancelled(stream: Stream | undefined): void {
    if (stream) this.#lost(stream, "The caller cancelled the call");
  }

  /** The other side gave it up, or the link is over. */
  #lost(stream: Stream, reason: string): void {
    const { caller, served } = stream;
    if (!caller) {
      this.#remove(stream);
      served?.signal.abort(new DOMException(reason, "AbortError"));
      return;
    }
    this.#settled(stream, caller);
    caller.reject(new LinkError(reason, stream.wasOpened));
  }

  // ── Serving ────────────────────────────────────────────────────────────────────────────────────

  #accept(id: number): void {
    this.#lastId = id;
    const stream = new Stream(id);
    this.#streams.set(id, stream);
    if (this.#isEnding()) this.#fail(stream, false, `${this.#options.self} is stopping`);
    else if (this.#isFull()) this.#fail(stream, false, "Too many answers wait to be sent");
  }

  #serve(stream: Stream, text: string): void {
    const lineEnd = text.indexOf("\n");
    const target = targetIn(text.slice(0, Math.max(lineEnd, 0)));
    if (!target) return this.#broken();
    const isThere = () => this.#streams.get(stream.id) === stream;
    stream.served = new ServedCall(
      target,
      text.slice(lineEnd + 1),
      this.takesResultBytes,
      (text) => {
        if (isThere() && stream.queued < UNREAD_LIMIT) this.#send(stream, "n", text);
      },
    );
    this.#options.serve!(stream.served).then(
      (answer) => {
        if (!isThere()) return;
        if (typeof answer === "string") this.#send(stream, "a", answer);
        else this.#send(stream, "r", new ByteReader(answer));
      },
      (error) => isThere() && this.#fail(stream, true, messageOf(error)),
    );
  }

  #fail(stream: Stream, mayHaveRun: boolean, reason: string): void {
    stream.isDeaf = true;
    this.#forgetHalf(stream);
    this.#send(stream, "f", JSON.stringify([mayHaveRun, reason]));
  }

  // ── The peer's life and clock ──────────────────────────────────────────────────────────────────

  #keepAlive(pingEveryMs: number, deadAfterMs: number): void {
    const nowMs = performance.now();
    // While this process stood still it read nothing: that is no silence of the peer's.
    this.#heardAt += Math.max(0, nowMs - this.#lookedAt - pingEveryMs);
    this.#lookedAt = nowMs;
    const silentMs = nowMs - this.#heardAt;
    if (silentMs < deadAfterMs) return this.#sendPing();
    const { peer } = this.#options;
    this.#close(SILENT, `${peer} was silent for ${Math.round(silentMs / 1000)} s`);
  }

  #sendPing(): void {
    this.#ping ??= { number: ++this.#pings, at: performance.now(), time: Date.now() };
    this.#say("p", 0, this.#ping.number.toString(36));
  }

  #pong(payload: string): void {
    const [number, time] = payload.split(",");
    const ping = this.#ping;
    if (!ping || parseInt(number, 36) !== ping.number || !Number.isFinite(Number(time))) return;
    this.#ping = null;
    this.measured(performance.now() - ping.at, ping.time, Number(time));
  }

  // ── The end ────────────────────────────────────────────────────────────────────────────────────

  #broken(): void {
    this.#close(BROKEN, `${this.#options.peer} broke the protocol of the link`);
  }

  #close(code: number, reason: string): void {
    if (this.#over !== null) return;
    this.#end(reason);
    this.#socket.close(code, reason);
  }

  #end(reason: string): void {
    if (this.#over !== null) return;
    this.#over = reason;
    clearInterval(this.#pinging);
    for (const stream of [...this.#streams.values()]) this.#lost(stream, reason);
    this.#socket.onMessage = null;
    this.#resolveClosed(reason);
    this.#resolveEnding();
  }
}

/** Bytes in several parts that are sent piece by piece. */
class ByteReader {
  readonly length: number;
  readonly #parts: Uint8Array[];
  #part = 0;
  #at = 0;

  constructor(parts: Uint8Array[]) {
    this.#parts = parts;
    this.length = lengthOf(parts);
  }

  /** The next bytes after a head of ASCII; they hold until the next piece of any reader is asked for. */
  piece(head: string, length: number): Uint8Array<ArrayBuffer> {
    const piece = PIECE_BUFFER.subarray(0, head.length + length);
    let filled = new TextEncoder().encodeInto(head, piece).written;
    while (filled < piece.length) {
      const part = this.#parts[this.#part];
      const taken = part.subarray(this.#at, this.#at + piece.length - filled);
      piece.set(taken, filled);
      filled += taken.length;
      this.#at += taken.length;
      if (this.#at === part.length) [this.#part, this.#at] = [this.#part + 1, 0];
    }
    return piece;
  }
}

const PIECE_BUFFER = new Uint8Array(PIECE + HEAD_LENGTH);

/** What came in pieces; null when some are text and some bytes. */
function wholeOf(pieces: (string | Uint8Array)[]): string | Uint8Array<ArrayBuffer> | null {
  if (pieces.every((piece) => typeof piece === "string")) return pieces.join("");
  return pieces.every((piece) => typeof piece !== "string") ? joined(pieces) : null;
}

/** How much of a text goes next: no half of a surrogate pair, which UTF-8 cannot carry. */
function pieceOf(text: string, start: number, most: number): number {
  if (text.length - start <= most) return text.length - start;
  const last = text.charCodeAt(start + most - 1);
  return last >= 0xd800 && last < 0xdc00 ? most - 1 : Math.max(most, 0);
}

function targetIn(line: string): LinkTarget | null {
  try {
    const [serverId, instance] = JSON.parse(line);
    if (typeof serverId !== "string") return null;
    return instance === null || typeof instance === "string" ? { serverId, instance } : null;
  } catch {
    return null;
  }
}

function failureIn(text: string): LinkError {
  try {
    const [mayHaveRun, reason] = JSON.parse(text);
    return new LinkError(String(reason).slice(0, 500), mayHaveRun !== false);
  } catch {
    return new LinkError("The call failed", true);
  }
}

function randomText(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(24));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
