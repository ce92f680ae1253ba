/**
 * Sessions as one replica knows them: a cache of their rows, and words from replica to replica about
 * what is under way in them. The tables are the truth; a wake-up says where to look.
 */
import { BriefMap } from "../dtma/protocol.ts";
import type { Changes } from "../models/changes.ts";
import type { Database } from "../models/db.ts";
import { errorFields, type Log } from "../models/log.ts";
import {
  changeSession,
  type EndedSession,
  endSession,
  forgetSessions,
  messagesAfter,
  openSession,
  putMessages,
  readSession,
  type Session,
  SESSION_MS,
  sessionsWithMessages,
  touchSession,
} from "../models/sessions.ts";

/** Who calls, as the bearer token says. */
export interface Caller {
  tokenId: string;
  agentId: string;
  workspaceId: string;
  /** What a client's token is good for; absent or null of an agent's own, which is good for all. */
  limits?: { scopes: string[] } | null;
}

/**
 * What one replica has to tell that another may wait for:
 * - `response`: the client answered the request of this id; `answer` holds the text of its `result` or `error`
 * - `cancel`: the client gave up its request; `id` as it is written
 * - `claim`: the client asks for the rest of this POST's stream
 * - `stream`: the client opened a stream, which takes the place of the one before it
 * - `end`: the client ended the session; to others than this replica its row says so
 */
export type Word =
  | { word: "response"; id: string; answer: { kind: "result" | "error"; text: string } }
  | { word: "cancel"; id: string }
  | { word: "claim"; stream: string }
  | { word: "stream" }
  | { word: "end" };

/**
 * @param at when it was said, about, in milliseconds of `Date.now()`
 * @param sequence its number among the session's words, of those that went through the database
 * @returns true when it was for this listener
 */
export type WordListener = (word: Word, at: number, sequence: number | null) => boolean;

/** After so long a row is read again, beside its use. */
const FRESH_MS = 30_000;
/** After so long without a look it is not believed any more. */
const STALE_MS = 5 * 60_000;
const TOUCH_MS = 10 * 60_000;
/** Whoever waits for long looks by himself too: a wake-up can be lost. */
export const LOOK_MS = 5000;
const REMEMBERED_LIMIT = 10_000;

interface Remembered {
  /** Who asked, and whose it is if it is there: a session has one agent for ever. */
  agentId: string;
  /** Null while it is being read for the first time. */
  session: Session | null;
  reading: Promise<Session | null>;
  at: number;
}

type Opened = Parameters<typeof openSession>[2];
type SessionChange = Parameters<typeof changeSession>[2];

export interface Sessions {
  open(caller: Caller, opened: Opened): Promise<Session>;
  /** The agent's own session in this scope, or null: another agent's is none. At once where it is known. */
  find(
    caller: Caller,
    of: Pick<Session, "scope" | "transport">,
    id: string,
  ): Session | null | Promise<Session | null>;
  change(session: Session, change: SessionChange): Promise<Session | null>;
  end(session: Session): Promise<boolean>;
  /** Who is told of sessions that ended since nobody used them. */
  onForgotten: (session: EndedSession) => void;
  /** Tells whoever waits for it: here if it is here, else through the database. */
  tell(sessionId: string, word: Word): Promise<void>;
  /** Tells all, here too. @returns its number; null when the session has ended */
  announce(sessionId: string, word: Word): Promise<number | null>;
  /** Listens for words about a session, from before the call on. @returns the way to stop */
  listen(sessionId: string, listener: WordListener): () => void;
}

export function sessions(
  { db, changes, log }: { db: Database; changes: Changes; log: Log },
): Sessions {
  const remembered = new Map<string, Remembered>();
  /** Each request of a session listens while it is under way. */
  const listening = new BriefMap<
    string,
    { listeners: BriefMap<WordListener, WordListener>; after: number }
  >();
  let looking: ReturnType<typeof setTimeout> | null = null;

  changes.watch(({ table }) => table === "mcp_sessions", (change) => {
    if (change?.session) remembered.delete(change.session);
    else remembered.clear();
  });
  changes.watch(({ table, stream }) => table === "mcp_messages" && stream === "in", (change) => {
    if (change?.session) hear(change.session);
    else hearAll();
  });

  const here: Sessions = {
    ...{ open, find, change, end, tell, announce, listen },
    onForgotten: () => {},
  };
  return here;

  async function open(caller: Caller, opened: Opened): Promise<Session> {
    const session = await openSession(db, caller, opened);
    remember(session);
    return session;
  }

  function find(
    { agentId }: Caller,
    { scope, transport }: Pick<Session, "scope" | "transport">,
    id: string,
  ): Session | null | Promise<Session | null> {
    if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(id)) return null;
    const found = remembering(agentId, id);
    const ifTheirs = (session: Session | null) =>
      session && session.agentId === agentId && session.scope === scope &&
        session.transport === transport
        ? session
        : null;
    return found instanceof Promise ? found.then(ifTheirs) : ifTheirs(found);
  }

  function remembering(agentId: string, id: string): Session | null | Promise<Session | null> {
    const entry = remembered.get(id);
    if (entry && entry.agentId !== agentId) {
      return entry.session ? null : readSession(db, agentId, id);
    }
    const ageMs = entry ? Date.now() - entry.at : Infinity;
    if (!entry || ageMs > STALE_MS) return read(agentId, id);
    const { session } = entry;
    if (!session) return entry.reading;
    if (session.expiresAt.getTime() < Date.now()) return read(agentId, id);
    if (ageMs > FRESH_MS) read(agentId, id).catch(() => {});
    return session;
  }

  /** Whoever uses one looks after those that nobody uses. */
  async function touch(session: Session): Promise<void> {
    try {
      await touchSession(db, session);
      for (const each of await forgetSessions(db, session.agentId)) here.onForgotten(each);
    } catch (error) {
      log.error("That a session is in use could not be written", errorFields(error));
    }
  }

  function read(agentId: string, id: string): Promise<Session | null> {
    const before = remembered.get(id);
    const reading = readSession(db, agentId, id);
    const entry: Remembered = {
      agentId,
      session: before?.session ?? null,
      reading,
      at: Date.now(),
    };
    put(id, entry);
    reading.then((session) => {
      // Its row says since when: a replica may live for minutes alone.
      const leftMs = session ? session.expiresAt.getTime() - Date.now() : Infinity;
      if (leftMs < SESSION_MS - TOUCH_MS) touch(session!);
      // Unless it was dropped meanwhile, since what was read may be out of date.
      if (remembered.get(id) !== entry) return;
      if (session) entry.session = session;
      else remembered.delete(id);
    }, () => remembered.get(id) === entry && remembered.delete(id));
    return reading;
  }

  function remember(session: Session) {
    const { id, agentId } = session;
    put(id, { agentId, session, reading: Promise.resolve(session), at: Date.now() });
  }

  function put(id: string, entry: Remembered) {
    if (remembered.size >= REMEMBERED_LIMIT) remembered.clear();
    remembered.set(id, entry);
  }

  async function change(session: Session, wanted: SessionChange): Promise<Session | null> {
    const changed = await changeSession(db, session, wanted);
    if (changed) remember(changed);
    else remembered.delete(session.id);
    return changed;
  }

  async function end(session: Session): Promise<boolean> {
    remembered.delete(session.id);
    const hasEnded = await endSession(db, session);
    spread(session.id, { word: "end" }, Date.now(), null);
    return hasEnded;
  }

  async function tell(sessionId: string, word: Word): Promise<void> {
    if (!spread(sessionId, word, Date.now(), null)) await announce(sessionId, word);
  }

  async function announce(sessionId: string, word: Word): Promise<number | null> {
    return await putMessages(db, sessionId, "in", [JSON.stringify(word)]);
  }

  function listen(sessionId: string, listener: WordListener): () => void {
    let entry = listening.get(sessionId);
    if (!entry) listening.set(sessionId, entry = { listeners: new BriefMap(), after: 0 });
    startLooking();
    entry.listeners.set(listener, listener);
    return () => {
      entry.listeners.delete(listener);
      if (entry.listeners.size === 0 && listening.get(sessionId) === entry) {
        listening.delete(sessionId);
      }
    };
  }

  /** @returns whether somebody here waited for it */
  function spread(sessionId: string, ...said: Parameters<WordListener>): boolean {
    const listeners = listening.get(sessionId)?.listeners.values() ?? [];
    return [...listeners].map((listener) => listener(...said)).some(Boolean);
  }

  async function hear(sessionId: string): Promise<void> {
    const entry = listening.get(sessionId);
    if (!entry) return;
    try {
      for (;;) {
        const words = await messagesAfter(db, sessionId, "in", entry.after);
        if (words.length === 0) return;
        for (const { sequence, message, ageMs } of words) {
          // Two looks at the same time read the same.
          if (sequence <= entry.after) continue;
          entry.after = sequence;
          spread(sessionId, JSON.parse(message), Date.now() - ageMs, sequence);
        }
      }
    } catch (error) {
      log.error("What another replica said of a session could not be read", errorFields(error));
    }
  }

  async function hearAll(): Promise<void> {
    try {
      const known = [...listening.keys()].map((id) => ({ id, after: listening.get(id)!.after }));
      for (const sessionId of await sessionsWithMessages(db, "in", known)) hear(sessionId);
    } catch (error) {
      log.error("Whether replicas said anything of sessions could not be read", errorFields(error));
    }
  }

  function startLooking() {
    looking ??= setTimeout(() => {
      looking = null;
      hearAll();
      if (listening.size > 0) startLooking();
    }, LOOK_MS);
  }
}
