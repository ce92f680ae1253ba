/**
 * What changes on the servers of an agent, told to its open streams: lists that are another now, which the
 * database knows, and resources that were updated, which servers themselves tell whoever listens.
 */
import { WAIST_REVISION } from "../dtma/protocol.ts";
import type { Changes } from "../models/changes.ts";
import type { Log } from "../models/log.ts";
import { errorFields } from "../models/log.ts";
import type { ToolbeltServer } from "../models/toolbelts.ts";
import { type NamedToolbelt, routeUri, shownUri } from "./aggregate.ts";
import type { Target } from "./links.ts";
import { isObject, META } from "./revisions.ts";
import { callServer, type RouterDeps } from "./router.ts";
import type { Caller } from "./sessions.ts";
import { concernsToolbelts, type Toolbelts } from "./toolbelt_cache.ts";
import { targetOf } from "./waist.ts";

/** Changes that come within this time are told once. */
const DAMP_MS = 250;
/** Looked again without a wake-up, which can be lost. */
const LOOK_MS = 15_000;
/** Before a server is listened to again whose stream ended. */
const AGAIN_MS = 1000;
const AGAIN_LIMIT_MS = 60_000;
/** Resources on one stream of a toolbox's, which leaves out those beyond (dtma/subscriptions.ts). */
const STREAM_URIS = 1000;

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
}

export function listening(
  deps: RouterDeps & { changes: Changes; log: Log },
  toolbelts: Toolbelts,
): Listening {
  const upstream = upstreamListens(deps);

  return {
    async follow(follower) {
      const { caller, scope, wanted, tell, onFingerprint, wakesBy, signal } = follower;
      let { known } = follower;
      const wakeUps = deps.changes.subscribe((change) =>
        concernsToolbelts(change) &&
          (change.workspace === null || change.workspace === caller.workspaceId) ||
        (wakesBy?.(change) ?? false)
      );
      const soon = damped(tell);
      const heard = new Map<string, () => void>();
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
          listenTo(heard, named, wish, follower, soon);
          await wakeUps.next(LOOK_MS, signal);
          // A server that comes up changes many rows at once.
          await pause(DAMP_MS);
        }
      } finally {
        wakeUps.close();
        for (const stop of heard.values()) stop();
        soon.stop();
      }
    },
  };

  /** Begins and ends to listen to servers, so that it is to those that are wanted now. */
  function listenTo(
    heard: Map<string, () => void>,
    named: NamedToolbelt,
    { resources, uris }: Wanted,
    { caller: { agentId }, sessionId }: Follower,
    soon: (method: string, uri?: string) => void,
  ): void {
    /** One instance of all has one stream for all, whoever they are: a toolbox takes so many a server. */
    const heardAt = (server: ToolbeltServer): Target => ({
      ...targetOf(server, { agentId, sessionId }),
      ...(server.instances === "shared" ? { instance: null } : {}),
    });
    const keyOf = ({ serverId, instance }: Target, uri = "") => `${serverId} ${instance} ${uri}`;
    const wanted = new Map<string, () => () => void>();
    for (const uri of uris) {
      const route = routeUri(named, uri);
      if (!route || route.server.unavailable) continue;
      const { server } = route;
      const target = heardAt(server);
      wanted.set(keyOf(target, route.uri), () =>
        upstream.listen(
          target,
          route.uri,
          (updated) => {
            const isSame = updated === null || updated === route.uri;
            soon("resources/updated", isSame ? uri : shownUri(named, server, updated));
          },
        ));
    }
    for (const server of resources ? named.servers : []) {
      const { resources } = server.capabilities ?? {};
      if (!isObject(resources) || resources.listChanged !== true || server.unavailable) continue;
      const target = heardAt(server);
      wanted.set(
        keyOf(target),
        () => upstream.listen(target, null, () => soon("resources/list_changed")),
      );
    }
    for (const [key, stop] of heard) {
      if (wanted.has(key)) continue;
      stop();
      heard.delete(key);
    }
    for (const [key, listen] of wanted) if (!heard.has(key)) heard.set(key, listen());
  }
}

/** Tells the same once in a while, however often it happens. */
function damped(tell: Follower["tell"]) {
  const waiting = new Map<string, ReturnType<typeof setTimeout>>();
  const soon = (method: string, uri?: string) => {
    const key = `${method} ${uri ?? ""}`;
    if (waiting.has(key)) return;
    waiting.set(
      key,
      setTimeout(() => {
        waiting.delete(key);
        tell(method, uri);
      }, DAMP_MS),
    );
  };
  soon.stop = () => {
    for (const timer of waiting.values()) clearTimeout(timer);
  };
  return soon;
}

/** @param uri of the resource that was updated; null after a time in which nobody listened */
type OnUpdate = (uri: string | null) => void;

/** What is heard of one server's instance, whoever wants it: one stream for all of them. */
interface Heard {
  target: Target;
  /** By who listens: the URI of a resource, or null for the list of them. */
  listeners: Map<OnUpdate, string | null>;
  /** Resolved when what is listened for is not what it was. */
  changed: PromiseWithResolvers<void>;
  stop: AbortController;
}

/** Streams from servers. */
function upstreamListens(deps: RouterDeps & { log: Log }) {
  const heard = new Map<string, Heard>();

  /** @param uri of a resource; null for the list of them */
  function listen(target: Target, uri: string | null, onUpdate: OnUpdate): () => void {
    const key = JSON.stringify([target.serverId, target.instance]);
    let entry = heard.get(key);
    if (!entry) {
      const begun: Heard = {
        target,
        listeners: new Map(),
        changed: Promise.withResolvers(),
        stop: new AbortController(),
      };
      heard.set(key, entry = begun);
      keepListening(begun).catch((error) =>
        begun.stop.signal.aborted ||
        deps.log.error("A server is not heard any more", errorFields(error))
      ).finally(() => heard.get(key) === begun && heard.delete(key));
    }
    const { listeners, stop } = entry;
    listeners.set(onUpdate, uri);
    // The toolbox may have moved since.
    entry.target = target;
    entry.changed.resolve();
    return () => {
      listeners.delete(onUpdate);
      if (listeners.size > 0) return heard.get(key)?.changed.resolve();
      heard.delete(key);
      stop.abort();
    };
  }

  /** Keeps a stream open for what is wanted; a new one takes over before the one before it ends. */
  async function keepListening(entry: Heard): Promise<void> {
    let before: AbortController | null = null, waitMs = AGAIN_MS, isAgain = false;
    while (!entry.stop.signal.aborted) {
      // Many wishes come at once.
      await pause(DAMP_MS);
      entry.changed = Promise.withResolvers();
      const stop = new AbortController();
      const acknowledged = Promise.withResolvers<void>();
      const over = opened(entry, AbortSignal.any([stop.signal, entry.stop.signal]), () => {
        acknowledged.resolve();
        waitMs = AGAIN_MS;
        // What happened between two streams was told to nobody.
        if (isAgain) { for (const onUpdate of entry.listeners.keys()) onUpdate(null); }
        isAgain = false;
      }).then(() => false);
      await Promise.race([acknowledged.promise, over]);
      before?.abort();
      before = stop;
      if (await Promise.race([over, entry.changed.promise.then(() => true)])) continue;
      before = null;
      isAgain = true;
      await pause(waitMs);
      waitMs = Math.min(waitMs * 2, AGAIN_LIMIT_MS);
    }
  }

  /** What is wanted, on as many streams as it takes, until one of them ends. */
  async function opened(
    heard: Heard,
    signal: AbortSignal,
    onAcknowledged: () => void,
  ): Promise<void> {
    const wanted = new Set(heard.listeners.values());
    const ofList = wanted.delete(null), uris = [...wanted] as string[];
    const streams: Record<string, unknown>[] = ofList ? [{ resourcesListChanged: true }] : [];
    for (let at = 0; at < uris.length; at += STREAM_URIS) {
      streams.push({ resourceSubscriptions: uris.slice(at, at + STREAM_URIS) });
    }
    let unacknowledged = streams.length;
    const stop = new AbortController();
    const until = AbortSignal.any([signal, stop.signal]);
    try {
      await Promise.race(
        streams.map((notifications) =>
          openedStream(heard, notifications, until, () => --unacknowledged || onAcknowledged())
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
    onAcknowledged: () => void,
  ): Promise<void> {
    const meta = { [META.protocolVersion]: WAIST_REVISION, [META.clientCapabilities]: {} };
    const body = JSON.stringify({
      jsonrpc: "2.0",
      id: 1,
      method: "subscriptions/listen",
      params: { notifications, _meta: meta },
    });
    const onNotification = (text: string) => {
      const { method, params } = JSON.parse(text);
      if (method === "notifications/subscriptions/acknowledged") return onAcknowledged();
      const isList = method === "notifications/resources/list_changed";
      if (!isList && method !== "notifications/resources/updated") return;
      const updated = String(params?.uri ?? "");
      for (const [onUpdate, uri] of listeners) {
        if (isList ? uri === null : uri !== null && isWithin(updated, uri)) {
          onUpdate(isList ? null : updated);
        }
      }
    };
    await callServer(deps, target, body, { signal, onNotification }).catch((error) => {
      if (!signal.aborted) throw error;
    });
  }

  return { listen };
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
