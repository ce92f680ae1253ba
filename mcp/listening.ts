/**
 * What changes on the servers of an agent, told to its open streams: lists that are another now, which the
 * database knows, and what servers themselves tell whoever listens: resources that were updated, and lists
 * that they call changed. What a client is given is approved all the same: at worst it lists in vain.
 */
import { ErrorCode, objectMembers, UNTOLD_META, WAIST_REVISION } from "../dtma/protocol.ts";
import type { Changes } from "../models/changes.ts";
import type { Log } from "../models/log.ts";
import { errorFields } from "../models/log.ts";
import type { ToolbeltServer } from "../models/toolbelts.ts";
import { type NamedToolbelt, routeUri, shownUri } from "./aggregate.ts";
import type { Target } from "./links.ts";
import { isObject, META, RpcCode } from "./revisions.ts";
import { type Answer, callServer, failure, type RouterDeps } from "./router.ts";
import type { Caller } from "./sessions.ts";
import { concernsToolbelts, type Toolbelts } from "./toolbelt_cache.ts";
import { targetOf } from "./waist.ts";

/** Changes that come within this time are told once. */
const DAMP_MS = 250;
/** Looked again without a wake-up, which can be lost. */
const LOOK_MS = 15_000;
/** How long a stream's beginning waits for its servers to be heard: one may sleep until it is called. */
const HEARD_WITHIN_MS = 500;
/** Servers that are listened to for the sake of tools and prompts without links, by a `fetch` each. */
const FETCHED_LIMIT = 16;
/** Before a server is listened to again whose stream ended. */
const AGAIN_MS = 1000;
const AGAIN_LIMIT_MS = 60_000;
/** Resources on one stream of a toolbox's, which leaves out those beyond (dtma/subscriptions.ts). */
const STREAM_URIS = 1000;
/** How long a server may take to say whether it tells of a resource: one that sleeps is started by it. */
const SAYS_WITHIN_MS = 10_000;
/** So many resources of one server are asked for at once; a toolbox has 256 listeners of one. */
const ASKED_AT_ONCE = 64;
const ACKNOWLEDGED = "notifications/subscriptions/acknowledged";

/** What a stream's client wants to be told. */
export interface Wanted {
  tools: boolean;
  prompts: boolean;
  resources: boolean;
  /** Resources whose updates are wanted, as the client names them. */
  uris: string[];
}

/** The present lists, in a few characters each. */
export interface Fingerprint {
  tools: string;
  prompts: string;
  resources: string;
}

export interface Follower {
  caller: Caller;
  scope: string | null;
  /** Whose own instance is listened to, where a server has one for each session. */
  sessionId: string | null;
  /** Asked at each look; null ends the stream. */
  wanted: () => Promise<Wanted | null>;
  /** @param method after `notifications/`. @param uri of a resource that was updated */
  tell: (method: string, uri?: string) => void;
  /**
   * Told once, when its servers are heard or after a moment, with those of the resources whose servers said by
   * then that they do not tell of them. Nothing is told of them before.
   */
  onHeard?: (refused: string[]) => void;
  /** The lists as the client knows them; without it as they are now. */
  known?: Fingerprint;
  /** Told of the lists at the beginning and whenever they are others. */
  onFingerprint?: (now: Fingerprint) => void;
  /** Another reason to look than a changed toolbelt, such as another wish. */
  wakesBy?: (change: { table: string; session?: string }) => boolean;
  signal: AbortSignal;
}

export interface Listening {
  /** Tells a stream of changes until its signal aborts or nothing is wanted any more. */
  follow(follower: Follower): Promise<void>;
  /**
   * Asks a server whether it tells of a resource, which is for whoever follows it then to listen to.
   * @returns null when it does; else the error, the server's own where it has one. Throws the signal's reason
   */
  refusal(
    asker: Pick<Follower, "caller" | "sessionId">,
    route: { server: ToolbeltServer; uri: string },
    signal: AbortSignal,
  ): Promise<Answer | null>;
}

export function listening(
  deps: RouterDeps & { changes: Changes; log: Log },
  toolbelts: Toolbelts,
): Listening {
  const upstream = upstreamListens(deps);

  return {
    refusal: async ({ caller: { agentId }, sessionId }, { server, uri }, signal) =>
      server.unavailable
        ? failure(ErrorCode.serverUnavailable, server.unavailable)
        : await upstream.refusal(heardAt(server, { agentId, sessionId }), uri, signal),

    async follow(follower) {
      const { caller, scope, wanted, tell, onHeard, onFingerprint, wakesBy, signal } = follower;
      let { known } = follower;
      const wakeUps = deps.changes.subscribe((change) =>
        concernsToolbelts(change) &&
          (change.workspace === null || change.workspace === caller.workspaceId) ||
        (wakesBy?.(change) ?? false)
      );
      const begun = Promise.withResolvers<void>();
      let hasBegun = false;
      const refused: string[] = [];
      const soon = damped(tell, begun.promise);
      const heard = new Map<string, Hearing>();
      /** From when the client knows that its stream has begun until the end of that. */
      let isTold = false;
      try {
        while (!signal.aborted) {
          const wish = await wanted();
          if (!wish) return;
          const named = await toolbelts.of(caller.agentId, scope);
          const now = await fingerprintOf(named);
          if (known && wish.tools && now.tools !== known.tools) soon("tools/list_changed");
          if (known && wish.prompts && now.prompts !== known.prompts) soon("prompts/list_changed");
          if (known && wish.resources && now.resources !== known.resources) {
            soon("resources/list_changed");
          }
          if (!known || JSON.stringify(known) !== JSON.stringify(now)) onFingerprint?.(now);
          known = now;
          const all = Promise.all(
            listenTo(heard, named, wish, follower, soon).map(async (each) => {
              const tells = await each.isHeard;
              if (!tells && !isTold && each.uri !== undefined) refused.push(each.uri);
              // What it told since the stream's beginning, or since it was subscribed to, was told to nobody.
              if (tells && isTold) each.onUpdate(null);
            }),
          );
          if (!hasBegun) {
            hasBegun = true;
            await Promise.race([all, pause(HEARD_WITHIN_MS)]);
            if (signal.aborted) return;
            isTold = true;
            onHeard?.(refused);
            begun.resolve();
          }
          await wakeUps.next(LOOK_MS, signal);
          // A server that comes up changes many rows at once.
          await pause(DAMP_MS);
        }
      } finally {
        wakeUps.close();
        for (const { stop } of heard.values()) stop();
        isTold = false;
        soon.stop();
      }
    },
  };

  /** Begins and ends to listen to servers, so that it is to those that are wanted now. @returns what is begun */
  function listenTo(
    heard: Map<string, Hearing>,
    named: NamedToolbelt,
    wish: Wanted,
    { caller: { agentId }, sessionId }: Follower,
    soon: (method: string, uri?: string) => void,
  ): Hearing[] {
    const wanted = new Map<string, () => Hearing>();
    const want = (server: ToolbeltServer, subject: Subject, onUpdate: OnUpdate, uri?: string) => {
      const target = heardAt(server, { agentId, sessionId });
      const key = `${target.serverId} ${target.instance} ${keyOf(subject)}`;
      wanted.set(key, () => ({ ...upstream.listen(target, subject, onUpdate), uri }));
    };
    for (const uri of wish.uris) {
      const route = routeUri(named, uri);
      if (!route || route.server.unavailable) continue;
      const { server } = route;
      want(server, { uri: route.uri }, (updated) => {
        const isSame = updated === null || updated === route.uri;
        soon("resources/updated", isSame ? uri : shownUri(named, server, updated));
      }, uri);
    }
    for (const list of LISTS.filter((list) => wish[list])) {
      // Of these the database knows that they changed, which must do where there are many servers to listen to.
      const isKnown = list !== "resources";
      if (isKnown && !deps.links && named.servers.length > FETCHED_LIMIT) continue;
      for (const server of named.servers) {
        const declared = server.capabilities?.[list];
        if (!isObject(declared) || declared.listChanged !== true || server.unavailable) continue;
        want(server, { list }, (updated) => {
          if (updated !== null || !isKnown) soon(`${list}/list_changed`);
        });
      }
    }
    for (const [key, { stop }] of heard) {
      if (wanted.has(key)) continue;
      stop();
      heard.delete(key);
    }
    const fresh: Hearing[] = [];
    for (const [key, listen] of wanted) {
      if (heard.has(key)) continue;
      const hearing = listen();
      heard.set(key, hearing);
      fresh.push(hearing);
    }
    return fresh;
  }
}

/** One instance of all has one stream for all, whoever they are: a toolbox takes so many a server. */
function heardAt(server: ToolbeltServer, client: Parameters<typeof targetOf>[1]): Target {
  return {
    ...targetOf(server, client),
    ...(server.instances === "shared" ? { instance: null } : {}),
  };
}

/** Tells the same once in a while, however often it happens, and nothing before its stream has begun. */
function damped(tell: Follower["tell"], begun: Promise<void>) {
  const waiting = new Map<string, ReturnType<typeof setTimeout>>();
  const soon = (method: string, uri?: string) => {
    const key = `${method} ${uri ?? ""}`;
    if (waiting.has(key)) return;
    waiting.set(
      key,
      setTimeout(async () => {
        await begun;
        // Unless it was stopped meanwhile.
        if (waiting.delete(key)) tell(method, uri);
      }, DAMP_MS),
    );
  };
  soon.stop = () => {
    for (const timer of waiting.values()) clearTimeout(timer);
    waiting.clear();
  };
  return soon;
}

export const LISTS = ["tools", "prompts", "resources"] as const;

/** What is heard of a server: that it calls one of its lists changed, or a resource updated. */
type Subject = { list: typeof LISTS[number] } | { uri: string };

const keyOf = (subject: Subject) => "list" in subject ? subject.list : `at ${subject.uri}`;

/** @param updated the resource's URI, or the list; null after a time in which nobody listened */
type OnUpdate = (updated: string | null) => void;

interface Hearing {
  /** Resolved when the server has said whether it tells of it. */
  isHeard: Promise<boolean>;
  onUpdate: OnUpdate;
  stop: () => void;
  /** Of a resource, as the client names it. */
  uri?: string;
}

/** What is heard of one server's instance, whoever wants it: one stream for all of them. */
interface Heard {
  target: Target;
  listeners: Map<OnUpdate, { subject: Subject; isHeard: PromiseWithResolvers<boolean> }>;
  /** By their keys, the subjects that the server tells of now and will after the next stream's begin. */
  told: Set<string>;
  /** Resolved when what is listened for is not what it was. */
  changed: PromiseWithResolvers<void>;
  stop: AbortController;
}

/** Streams from servers. */
function upstreamListens(deps: RouterDeps & { log: Log }) {
  const heard = new Map<string, Heard>();
  /** By their servers' instances, the questions of {@link refusal} that are under way. */
  const asked = new Map<string, { count: number; waiting: (() => void)[] }>();

  async function refusal(target: Target, uri: string, signal: AbortSignal): Promise<Answer | null> {
    const said = new AbortController();
    const inTime = AbortSignal.any([signal, AbortSignal.timeout(SAYS_WITHIN_MS)]);
    const until = AbortSignal.any([inTime, said.signal]);
    let answer: Answer | null = failure(
      ErrorCode.timedOut,
      `The server did not say within ${
        SAYS_WITHIN_MS / 1000
      } s whether it tells of this resource, which ` +
        "was not subscribed to",
    );
    const over = await turn(keyOfTarget(target));
    try {
      const ended = await callServer(deps, target, listenText({ resourceSubscriptions: [uri] }), {
        signal: until,
        endsWithLink: true,
        onNotification(text) {
          const { method, params } = JSON.parse(text);
          if (method !== ACKNOWLEDGED) return;
          answer = isGranted(params, uri) ? null : untold(text);
          said.abort();
        },
      });
      answer = ended.kind === "error" ? ended : failure(
        ErrorCode.serverUnavailable,
        "The server went away before it said whether it tells of this resource",
      );
    } catch (error) {
      if (!until.aborted) throw error;
    } finally {
      over();
    }
    signal.throwIfAborted();
    return answer;
  }

  /** Waits until so many are not asked of a server's instance at once. @returns what lets the next one */
  async function turn(key: string): Promise<() => void> {
    const turns = asked.get(key) ?? { count: 0, waiting: [] };
    asked.set(key, turns);
    if (turns.count < ASKED_AT_ONCE) turns.count++;
    else await new Promise<void>((resolve) => turns.waiting.push(resolve));
    return () => {
      const next = turns.waiting.shift();
      if (next) next();
      else if (--turns.count === 0) asked.delete(key);
    };
  }

  function listen(target: Target, subject: Subject, onUpdate: OnUpdate): Hearing {
    const key = keyOfTarget(target);
    let entry = heard.get(key);
    if (!entry) {
      const begun: Heard = {
        target,
        listeners: new Map(),
        told: new Set(),
        changed: Promise.withResolvers(),
        stop: new AbortController(),
      };
      heard.set(key, entry = begun);
      keepListening(begun).catch((error) =>
        begun.stop.signal.aborted ||
        deps.log.error("A server is not heard any more", errorFields(error))
      ).finally(() => heard.get(key) === begun && heard.delete(key));
    }
    const { listeners, told, stop } = entry;
    const isHeard = Promise.withResolvers<boolean>();
    listeners.set(onUpdate, { subject, isHeard });
    // The toolbox may have moved since.
    entry.target = target;
    if (told.has(keyOf(subject))) isHeard.resolve(true);
    else entry.changed.resolve();
    return {
      isHeard: isHeard.promise,
      onUpdate,
      stop() {
        listeners.delete(onUpdate);
        if (listeners.size === 0) {
          heard.delete(key);
          return stop.abort();
        }
        const isWanted = [...listeners.values()].some((each) =>
          keyOf(each.subject) === keyOf(subject)
        );
        if (!isWanted) heard.get(key)?.changed.resolve();
      },
    };
  }

  /** Keeps a stream open for what is wanted; a new one takes over before the one before it ends. */
  async function keepListening(entry: Heard): Promise<void> {
    let before: AbortController | null = null, waitMs = AGAIN_MS, isAgain = false;
    while (!entry.stop.signal.aborted) {
      // Many wishes come at once, and more by and by.
      await pause(before ? DAMP_MS : 0);
      entry.changed = Promise.withResolvers();
      const subjects = new Map(
        [...entry.listeners.values()].map(({ subject }) => [keyOf(subject), subject]),
      );
      // What nobody wants now will not be told: who wants it from here on is one more wish.
      entry.told = entry.told.intersection(new Set(subjects.keys()));
      const stop = new AbortController();
      const acknowledged = Promise.withResolvers<void>();
      const until = AbortSignal.any([stop.signal, entry.stop.signal]);
      const over = opened(entry, [...subjects.values()], until, (refused) => {
        acknowledged.resolve();
        waitMs = AGAIN_MS;
        entry.told = new Set(subjects.keys()).difference(refused);
        for (const { subject, isHeard } of entry.listeners.values()) {
          const key = keyOf(subject);
          if (subjects.has(key)) isHeard.resolve(!refused.has(key));
        }
        // What happened between two streams was told to nobody.
        if (isAgain) { for (const onUpdate of entry.listeners.keys()) onUpdate(null); }
        isAgain = false;
      }).then(() => false);
      await Promise.race([acknowledged.promise, over]);
      // What the one before has still to bring, where each is a connection of its own.
      if (before) await pause(DAMP_MS);
      before?.abort();
      before = stop;
      if (await Promise.race([over, entry.changed.promise.then(() => true)])) continue;
      before = null;
      entry.told = new Set();
      isAgain = true;
      await pause(waitMs);
      waitMs = Math.min(waitMs * 2, AGAIN_LIMIT_MS);
    }
  }

  /** What is wanted, on as many streams as it takes, until one of them ends. */
  async function opened(
    heard: Heard,
    subjects: Subject[],
    signal: AbortSignal,
    onAcknowledged: (refused: Set<string>) => void,
  ): Promise<void> {
    const lists = subjects.flatMap((subject) => "list" in subject ? [subject.list] : []);
    const uris = subjects.flatMap((subject) => "uri" in subject ? [subject.uri] : []);
    // Apart from resources, for which a server is started.
    const streams: { resourceSubscriptions?: string[]; [list: string]: unknown }[] =
      lists.length > 0
        ? [Object.fromEntries(lists.map((list) => [`${list}ListChanged`, true]))]
        : [];
    for (let at = 0; at < uris.length; at += STREAM_URIS) {
      streams.push({ resourceSubscriptions: uris.slice(at, at + STREAM_URIS) });
    }
    let unacknowledged = streams.length;
    const refused = new Set<string>();
    const stop = new AbortController();
    const until = AbortSignal.any([signal, stop.signal]);
    try {
      await Promise.race(
        streams.map((notifications) =>
          openedStream(heard, notifications, until, (granted) => {
            const { resourceSubscriptions: asked = [] } = notifications;
            const told = new Set<unknown>(Array.isArray(granted) ? granted : []);
            for (const uri of asked) if (!told.has(uri)) refused.add(keyOf({ uri }));
            if (--unacknowledged === 0) onAcknowledged(refused);
          })
        ),
      );
    } finally {
      stop.abort();
    }
  }

  /** One stream, to its end. */
  async function openedStream(
    { target, listeners }: Heard,
    notifications: Record<string, unknown>,
    signal: AbortSignal,
    onAcknowledged: (resources: unknown) => void,
  ): Promise<void> {
    const onNotification = (text: string) => {
      const { method, params } = JSON.parse(text);
      if (method === ACKNOWLEDGED) {
        return onAcknowledged(params?.notifications?.resourceSubscriptions);
      }
      const list = LISTS.find((list) => method === `notifications/${list}/list_changed`);
      if (!list && method !== "notifications/resources/updated") return;
      const updated = list ?? String(params?.uri ?? "");
      for (const [onUpdate, { subject }] of listeners) {
        const isAbout = "list" in subject
          ? subject.list === list
          : !list && isWithin(updated, subject.uri);
        if (isAbout) onUpdate(updated);
      }
    };
    const options = { signal, onNotification, endsWithLink: true };
    await callServer(deps, target, listenText(notifications), options).catch((error) => {
      if (!signal.aborted) throw error;
    });
  }

  return { listen, refusal };
}

function keyOfTarget({ serverId, instance }: Target): string {
  return JSON.stringify([serverId, instance]);
}

function listenText(notifications: Record<string, unknown>): string {
  const meta = { [META.protocolVersion]: WAIST_REVISION, [META.clientCapabilities]: {} };
  return JSON.stringify({
    jsonrpc: "2.0",
    id: 1,
    method: "subscriptions/listen",
    params: { notifications, _meta: meta },
  });
}

/** What is not acknowledged is not told of (2026-07-28, patterns/subscriptions#acknowledgment). */
function isGranted(params: unknown, uri: string): boolean {
  const granted = isObject(params) && isObject(params.notifications)
    ? params.notifications.resourceSubscriptions
    : undefined;
  return Array.isArray(granted) && granted.includes(uri);
}

/** The error of a server that does not tell of a resource, out of its acknowledgement. */
function untold(acknowledgement: string): Answer {
  const params = objectMembers(acknowledgement).get("params") ?? "{}";
  const own = objectMembers(objectMembers(params).get("_meta") ?? "{}").get(UNTOLD_META);
  const { code, message } = JSON.parse(own?.startsWith("{") ? own : "{}");
  if (Number.isInteger(code) && typeof message === "string") return { kind: "error", text: own! };
  return failure(RpcCode.invalidParams, "The server does not tell of updates of this resource");
}

/**
 * Whether a resource is another or a part of it: a server may tell of a part of what was subscribed to
 * (2025-11-25, server/resources#subscriptions).
 */
function isWithin(uri: string, whole: string): boolean {
  return uri === whole ||
    uri.startsWith(whole) && (/[/?#]$/.test(whole) || /[/?#]/.test(uri[whole.length]));
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

const fingerprints = new WeakMap<NamedToolbelt, Promise<Fingerprint>>();

function fingerprintOf(named: NamedToolbelt): Promise<Fingerprint> {
  let known = fingerprints.get(named);
  if (!known) fingerprints.set(named, known = computed(named));
  return known;
}

async function computed(named: NamedToolbelt): Promise<Fingerprint> {
  const [tools, prompts, resources] = await Promise.all([
    short(named.tools),
    short(named.prompts),
    short([
      named.templates,
      named.servers.map(({ serverId, capabilities }) => [
        serverId,
        capabilities?.resources,
      ]),
    ]),
  ]);
  return { tools, prompts, resources };
}

/** 11 characters that stand for a value. */
async function short(value: unknown): Promise<string> {
  const bytes = new TextEncoder().encode(JSON.stringify(value) ?? "");
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).slice(0, 8);
  return btoa(String.fromCharCode(...digest))
    .replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
