/**
 * The stream that a session has beside its calls, on either transport: it tells of what changes on the
 * session's servers. Its events' ids hold the lists as the client knows them, so that whoever comes back is
 * told of those that changed meanwhile.
 */
import type { Session } from "../models/sessions.ts";
import { type EventStream, openEventStream } from "./event_stream.ts";
import { type Fingerprint, LISTS } from "./listening.ts";
import { messageText } from "./messages.ts";
import type { Sessions } from "./sessions.ts";
import type { HttpRequest, TransportDeps } from "./streamable_http.ts";

export interface SessionStream extends EventStream {
  /** Of the event that comes next: of what the transport puts there, and the lists. */
  id(): string;
  /** Tells of changes until the stream ends, or the session or its token does; then it is closed. */
  follow(): Promise<void>;
}

/**
 * Opens a session's stream. A session has one: a newer one takes its place, wherever it is.
 *
 * @param resumed where a stream is resumed: the lists as its client knows them, as an event's id has them
 * @param options.idOf an event's id, out of the lists in it
 * @param options.isPrimed its client can be given an event without a message, by which it asks for the rest of a
 *   stream that was quiet
 * @param options.done counts it out, once it has ended or could not be opened
 */
export async function openSessionStream(
  { sessions, serving }: Pick<TransportDeps, "sessions" | "serving">,
  { caller, scope, stillHolds }: HttpRequest,
  session: Session,
  { resumed, idOf, isPrimed = false, done }: {
    resumed: string | null;
    idOf: (lists: string) => string;
    isPrimed?: boolean;
    done: () => void;
  },
): Promise<SessionStream> {
  const stream = openEventStream({ onGone: done });
  /** The lists as the client knows them, and as they are: between the two a change waits to be told. */
  let known = readLists(resumed), now = known;
  const id = () => idOf(known ? Object.values(known).join(".") : "");
  const tell = (method: string, uri?: string) => {
    const list = LISTS.find((list) => method === `${list}/list_changed`);
    if (list && known && now) known = { ...known, [list]: now[list] };
    stream.send({ id: id(), data: notificationText(method, uri) }, uri !== undefined);
  };
  const over = () => {
    stream.close();
    done();
  };
  const stopLooking = await onlyStream(sessions, session, () => stream.close()).catch((error) => {
    over();
    throw error;
  });

  async function follow(): Promise<void> {
    // What happened while nobody listened cannot be known: a client that comes back looks again.
    if (resumed !== null) {
      for (const uri of session.subscriptions) tell("resources/updated", uri);
    }
    try {
      await serving.listening.follow({
        caller,
        scope,
        sessionId: session.id,
        known: known ?? undefined,
        onFingerprint(lists) {
          now = lists;
          if (known) return;
          known = lists;
          if (isPrimed) stream.send({ id: id(), data: "" });
        },
        wanted: async () => {
          if (!await stillHolds()) return null;
          const found = await sessions.find(caller, session, session.id);
          return found &&
            { tools: true, prompts: true, resources: true, uris: found.subscriptions };
        },
        tell,
        wakesBy: (change) => change.table === "mcp_sessions" && change.session === session.id,
        signal: stream.gone,
      });
    } finally {
      stopLooking();
      over();
    }
  }

  return { ...stream, id, follow };
}

/** @param close ends this one @returns the way to stop looking */
async function onlyStream(
  sessions: Sessions,
  session: Session,
  close: () => void,
): Promise<() => void> {
  // Before the client hears of this stream, and so before it can open the next.
  const own = await sessions.announce(session.id, { word: "stream" });
  return sessions.listen(session.id, ({ word }, _at, sequence) => {
    if (word === "stream" && sequence !== null && own !== null && sequence > own) close();
    return false;
  });
}

function notificationText(method: string, uri?: string): string {
  return messageText(
    `notifications/${method}`,
    uri === undefined ? "{}" : JSON.stringify({ uri }),
  );
}

/** Null for the id of an event before which the lists were not known. */
function readLists(lists: string | null): Fingerprint | null {
  const [, tools, prompts, resources] = /^([\w-]+)\.([\w-]+)\.([\w-]+)$/.exec(lists ?? "") ?? [];
  return tools ? { tools, prompts, resources } : null;
}
