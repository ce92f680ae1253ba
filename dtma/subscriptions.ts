/**
 * `subscriptions/listen` of the waist (2026-07-28, patterns/subscriptions). A server of 2026-07-28 is
 * asked for each listener alone; an older one is subscribed to each resource once for all, and tells
 * everybody of its lists. In both cases a flood becomes one notification a second.
 */
import type { CallSignal } from "./call_signal.ts";
import {
  errorResponse,
  isObject,
  type JsonRpcNotification,
  type JsonRpcRequest,
  type JsonRpcResponse,
  SUBSCRIPTION_META,
} from "./connection.ts";
import { objectMembers, objectText } from "./json_text.ts";
import { UNTOLD_META } from "./protocol.ts";

/** Of one server at once; the bridge can share one among its clients. */
export const LISTENERS_LIMIT = 256;

const URIS_LIMIT = 1000;

/** Of one server that are subscribed to at once. */
const RESOURCES_LIMIT = 10_000;
const SUBSCRIBING_AT_ONCE = 16;
const TOO_MANY_RESOURCES = JSON.stringify({
  code: -32603,
  message: `The server has ${RESOURCES_LIMIT} resources subscribed to, which is the limit`,
});

/** The same notification goes to a listener once in this time at most. */
const DAMP_MS = 1000;
/** Different ones in that time; what is more is a flood of another kind. */
const DAMPED_LIMIT = 2000;

/** What a listener may ask for, the notification that it is told, and the capability that it needs. */
const LISTS = {
  toolsListChanged: { method: "notifications/tools/list_changed", capability: "tools" },
  promptsListChanged: { method: "notifications/prompts/list_changed", capability: "prompts" },
  resourcesListChanged: { method: "notifications/resources/list_changed", capability: "resources" },
} as const;
const UPDATED = "notifications/resources/updated";
const TASK = "notifications/tasks";
/** What 2025-11-25 calls it. */
const LEGACY_TASK = "notifications/tasks/status";
export const ACKNOWLEDGED = "notifications/subscriptions/acknowledged";

/** One listener's stream: every message on it carries the id of its request. */
export class Listener {
  readonly #idText: string;
  readonly #notify: (notification: JsonRpcNotification) => void;
  /** What was sent just now, and the newest of its kind that came since. */
  readonly #recent = new Map<
    string,
    { next: JsonRpcNotification | null; timer: ReturnType<typeof setTimeout> }
  >();

  constructor(
    { id }: JsonRpcRequest,
    notify: (notification: JsonRpcNotification) => void = () => {},
  ) {
    this.#idText = JSON.stringify(id);
    this.#notify = notify;
  }

  /** Passes a notification of the server on: at once, or within a second with those like it. */
  tell(notification: JsonRpcNotification): void {
    const { method, params } = notification;
    const isDamped = method === UPDATED || method === TASK || method.endsWith("/list_changed");
    if (!isDamped) return this.#send(notification);
    const kind = `${method} ${params?.uri ?? params?.taskId ?? ""}`;
    const recent = this.#recent.get(kind);
    if (recent) recent.next = notification;
    else if (this.#recent.size < DAMPED_LIMIT) {
      this.#send(notification);
      this.#rest(kind);
    }
  }

  /** @param untold the text of the error by which the one resource that was asked for was refused */
  acknowledge(granted: Record<string, unknown>, untold?: string): void {
    const members = new Map([["notifications", JSON.stringify(granted)]]);
    if (untold !== undefined) members.set("_meta", objectText(new Map([[UNTOLD_META, untold]])));
    this.#send({ jsonrpc: "2.0", method: ACKNOWLEDGED, paramsText: objectText(members) });
  }

  /** The stream ends: what was held back goes out before. */
  end(): void {
    for (const { next, timer } of this.#recent.values()) {
      clearTimeout(timer);
      if (next) this.#send(next);
    }
    this.#recent.clear();
  }

  /** The result that ends the stream (patterns/subscriptions#graceful-closure). */
  result(request: JsonRpcRequest, resultText = "{}"): JsonRpcResponse {
    const members = objectMembers(resultText);
    if (!members.has("resultType")) members.set("resultType", '"complete"');
    const text = objectText(members.set("_meta", this.#meta(members.get("_meta"))));
    return { jsonrpc: "2.0", id: request.id, result: JSON.parse(text), text };
  }

  #rest(kind: string): void {
    const timer = setTimeout(() => {
      const { next } = this.#recent.get(kind)!;
      this.#recent.delete(kind);
      if (!next) return;
      this.#send(next);
      this.#rest(kind);
    }, DAMP_MS);
    this.#recent.set(kind, { next: null, timer });
  }

  #send({ method, params = {}, paramsText = JSON.stringify(params) }: JsonRpcNotification): void {
    const members = objectMembers(paramsText);
    const text = objectText(members.set("_meta", this.#meta(members.get("_meta"))));
    this.#notify({ jsonrpc: "2.0", method, params: JSON.parse(text), paramsText: text });
  }

  #meta(before = "{}"): string {
    return objectText(objectMembers(before).set(SUBSCRIPTION_META, this.#idText));
  }
}

interface Subscriber {
  listener: Listener;
  methods: Set<string>;
  uris: Set<string>;
  taskIds: Set<unknown>;
  /** What came before the acknowledgement, which has to be first. */
  early: JsonRpcNotification[] | null;
  end: () => void;
}

type Ask = (
  method: "resources/subscribe" | "resources/unsubscribe",
  uri: string,
) => Promise<string | null>;

/** The listeners of a server of an older revision. */
export class Subscriptions {
  readonly #ask: Ask;
  readonly #subscribers = new Set<Subscriber>();
  /** How many want a resource, whether the server has been told so, and the error by which it refused. */
  readonly #resources = new Map<
    string,
    { count: number; isSubscribed: Promise<boolean>; refusal: string | null }
  >();

  /** @param ask says it to the server; the text of its error when that does not do it */
  constructor(ask: Ask) {
    this.#ask = ask;
  }

  /** Listeners that wait for changes of resources or tasks, for which the server has to run. */
  get count(): number {
    let count = 0;
    for (const { uris, taskIds } of this.#subscribers) {
      if (uris.size > 0 || taskIds.size > 0) count++;
    }
    return count;
  }

  /** Answered when the server's session ends; rejects when the signal is aborted. */
  async listen(
    request: JsonRpcRequest,
    { wanted, capabilities, hasTasks = false, signal, onNotification }: {
      wanted: unknown;
      capabilities: Record<string, unknown>;
      hasTasks?: boolean;
      signal?: CallSignal;
      onNotification?: (notification: JsonRpcNotification) => void;
    },
  ): Promise<JsonRpcResponse> {
    if (!isObject(wanted)) {
      return errorResponse(request.id, -32602, "params.notifications is not an object");
    }
    if (this.#subscribers.size >= LISTENERS_LIMIT) return tooMany(request.id);
    const able = (what: string, to: string) =>
      isObject(capabilities[what]) && capabilities[what][to] === true;
    const granted: Record<string, unknown> = {};
    const methods = new Set<string>();
    for (const [key, { method, capability }] of Object.entries(LISTS)) {
      if (wanted[key] !== true || !able(capability, "listChanged")) continue;
      granted[key] = true;
      methods.add(method);
    }
    const { resourceSubscriptions: asked } = wanted;
    const uris = new Set(
      Array.isArray(asked) && able("resources", "subscribe")
        ? asked.filter((uri) => typeof uri === "string").slice(0, URIS_LIMIT)
        : [],
    );
    const { taskIds: tasks } = wanted;
    const taskIds = new Set<unknown>(
      Array.isArray(tasks) && hasTasks ? tasks.slice(0, URIS_LIMIT) : [],
    );
    if (taskIds.size > 0) granted.taskIds = [...taskIds];
    const ended = Promise.withResolvers<void>();
    const listener = new Listener(request, onNotification);
    const subscriber: Subscriber = {
      listener,
      methods,
      uris,
      taskIds,
      early: [],
      end: () => ended.resolve(),
    };
    signal?.throwIfAborted();
    signal?.addEventListener("abort", subscriber.end, { once: true });
    this.#subscribers.add(subscriber);
    try {
      const refusals = await this.#subscribeAll(uris);
      if (Array.isArray(asked)) granted.resourceSubscriptions = [...uris];
      const isOne = Array.isArray(asked) && asked.length === 1;
      this.#acknowledge(subscriber, granted, isOne ? refusals[0] : undefined);
      await ended.promise;
      signal?.throwIfAborted();
      listener.end();
      return listener.result(request);
    } finally {
      signal?.removeEventListener("abort", subscriber.end);
      this.#subscribers.delete(subscriber);
      for (const uri of uris) this.#unsubscribe(uri);
    }
  }

  /** Not all that the waist tells with it: who listens asks for the task, which may need an answer by then. */
  #tellOfTask(taskId: unknown): void {
    for (const { listener, taskIds, early } of this.#subscribers) {
      if (!taskIds.has(taskId)) continue;
      const notification = { jsonrpc: "2.0" as const, method: TASK, params: { taskId } };
      if (!early) listener.tell(notification);
      else if (early.length < URIS_LIMIT) early.push(notification);
    }
  }

  /** A notification of the server, for those who listen for it. */
  tell(notification: JsonRpcNotification): void {
    const { method, params } = notification;
    if (method === LEGACY_TASK) return this.#tellOfTask(params?.taskId);
    const updated = method === UPDATED
      ? wholesOf(String(params?.uri)).filter((uri) => this.#resources.has(uri))
      : null;
    for (const { listener, methods, uris, early } of this.#subscribers) {
      const isWanted = updated ? updated.some((uri) => uris.has(uri)) : methods.has(method);
      if (!isWanted) continue;
      if (!early) listener.tell(notification);
      else if (early.length < URIS_LIMIT) early.push(notification);
    }
  }

  /**
   * The server forgot what it was subscribed to: it is told again. That something changed meanwhile who
   * listens has to assume.
   */
  again(): void {
    for (const [uri, resource] of this.#resources) {
      resource.isSubscribed = resource.isSubscribed.then(async (wasSubscribed) => {
        if (!wasSubscribed || resource.count === 0) return wasSubscribed;
        if (await this.#ask("resources/subscribe", uri) !== null) return false;
        this.tell({ jsonrpc: "2.0", method: UPDATED, params: { uri } });
        return true;
      });
    }
  }

  /** The session is over: so is every stream. */
  close(): void {
    for (const { end } of this.#subscribers) end();
  }

  #acknowledge(subscriber: Subscriber, granted: Record<string, unknown>, untold?: string): void {
    const { listener, early } = subscriber;
    listener.acknowledge(granted, untold);
    subscriber.early = null;
    for (const notification of early!) listener.tell(notification);
  }

  /** Takes out of the set what the server does not let be subscribed to. @returns its errors */
  async #subscribeAll(uris: Set<string>): Promise<string[]> {
    const all = [...uris], refusals: string[] = [];
    while (all.length > 0) {
      await Promise.all(
        all.splice(0, SUBSCRIBING_AT_ONCE).map(async (uri) => {
          const resource = this.#subscribe(uri);
          if (await resource.isSubscribed) return;
          if (resource.refusal !== null) refusals.push(resource.refusal);
          this.#unsubscribe(uri);
          uris.delete(uri);
        }),
      );
    }
    return refusals;
  }

  #subscribe(uri: string) {
    const resource = this.#resources.get(uri) ??
      { count: 0, isSubscribed: Promise.resolve(false), refusal: null };
    const mayAdd = this.#resources.size < RESOURCES_LIMIT;
    this.#resources.set(uri, resource);
    if (resource.count++ === 0) {
      resource.isSubscribed = resource.isSubscribed.then(async (isSubscribed) => {
        if (isSubscribed) return true;
        resource.refusal = mayAdd
          ? await this.#ask("resources/subscribe", uri)
          : TOO_MANY_RESOURCES;
        return resource.refusal === null;
      });
    }
    return resource;
  }

  #unsubscribe(uri: string): void {
    const resource = this.#resources.get(uri);
    if (!resource || --resource.count > 0) return;
    // In turn: who comes back meanwhile is subscribed after it.
    resource.isSubscribed = resource.isSubscribed.then(async (isSubscribed) => {
      if (resource.count > 0) return isSubscribed;
      if (isSubscribed) await this.#ask("resources/unsubscribe", uri);
      if (resource.count === 0) this.#resources.delete(uri);
      return false;
    });
  }
}

/**
 * The resource and what it may be a part of: a server may tell of a part of what was subscribed to
 * (2025-11-25, server/resources#subscriptions).
 */
function wholesOf(uri: string): string[] {
  const wholes = [uri];
  for (const { index } of uri.slice(0, 4096).matchAll(/[/?#]/g)) {
    wholes.push(uri.slice(0, index), uri.slice(0, index + 1));
    if (wholes.length > 100) break;
  }
  return wholes;
}

export function tooMany(id: JsonRpcRequest["id"]): JsonRpcResponse {
  return errorResponse(
    id,
    -32603,
    `The server has ${LISTENERS_LIMIT} subscriptions, which is the limit`,
  );
}
