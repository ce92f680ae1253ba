/**
 * The links of this process to toolboxes: one to each, over which all calls go. A cache, not truth: a
 * link that is lost is opened again at the next call, or by its toolbox where that dials the app.
 */
import {
  acceptedLink,
  type CallSignal,
  dialledLink,
  type Link,
  type LinkOptions,
  type LinkSocket,
  linkSocket,
  PROTOCOL_VERSION,
  prove,
  type SigningKey,
  signRequest,
  tunnelPurpose,
} from "../dtma/protocol.ts";
import type { Changes } from "../models/changes.ts";
import type { Database } from "../models/db.ts";
import { errorFields, type Log } from "../models/log.ts";
import { toolboxKey } from "../models/toolboxes.ts";
import { dropTunnel, putTunnel, replicaOfTunnel, tunnelSeen } from "../models/tunnels.ts";

/** A direct link that carried no call for so long is closed. */
const IDLE_MS = 60_000;
/** After a link could not be opened, calls go by `fetch` for so long before the next try. */
const RETRY_MS = 10_000;
/** Wait for a toolbox that is just dialling, after it or the app was started anew. */
const ARRIVAL_MS = 5000;
/** How often another replica is looked for meanwhile, and how long a found one serves. */
const LOOK_MS = 500;
const FOUND_MS = 5000;
/** How often a replica says that it has a link. Others believe it for a minute. */
const SEEN_EVERY_MS = 20_000;

/** Where a call goes. */
export interface Target {
  toolboxId: string;
  reach: "direct" | "tunnel";
  /** Of the toolbox's data path; null for a tunnel. */
  address: string | null;
  serverId: string;
  /** Whose instance of the server; null for the shared one. */
  instance: string | null;
}

/** How a call goes: over a link, as a signed request under a base URL, or not at all. */
export type Way = { link: Link } | { base: URL } | { unavailable: string };

export interface LinksOptions {
  db: Database;
  changes: Changes;
  appSigningKey: SigningKey;
  log: Log;
  /** Opens a WebSocket; an edge isolate cannot, and has no links. */
  dial: (url: URL, headers: Record<string, string>) => Promise<LinkSocket>;
  /** Where other replicas reach this one, or null when there are none. */
  replicaAddress: URL | null;
  idleMs?: number;
  arrivalMs?: number;
  seenEveryMs?: number;
}

export interface Links {
  /**
   * Finds or opens the way to a toolbox: at once where a link is open. Rejects only with the reason of an abort.
   */
  wayTo(target: Target, signal?: CallSignal): Way | Promise<Way>;
  /** The link that a toolbox opened to this process, or null. */
  tunnelOf(toolboxId: string): Link | null;
  /** Takes the WebSocket that a toolbox, whose signature was checked, opened to this process. */
  accept(toolboxId: string, socket: WebSocket): Promise<void>;
  /** The replica that was found to have a toolbox's link has none any more. */
  forget(toolboxId: string): void;
  /** Has {@link Links.close} wait for a call that goes by `fetch`. */
  waitFor(call: Promise<unknown>): void;
  /**
   * Ends the links that toolboxes opened when the calls under way are done, after `timeoutMs` in any case, and
   * takes no others: toolboxes turn to another replica.
   */
  endTunnels(timeoutMs: number): Promise<void>;
  /** Ends all links in the same way, and waits so long for the calls that go by `fetch`. */
  close(timeoutMs?: number): Promise<void>;
}

/** A link that the app dialled, or is dialling; null when it could not be opened. */
interface Direct {
  opening: Promise<Link | null>;
  isOpening: boolean;
  link: Link | null;
  /** When the dialling ended. */
  at: number;
}

const SIDES: Pick<LinkOptions, "version" | "self" | "peer"> = {
  version: PROTOCOL_VERSION,
  self: "the app",
  peer: "the toolbox's DTMA",
};

/** Makes the links of one process. */
export function links(options: LinksOptions): Links {
  const { db, changes, appSigningKey, log, dial, replicaAddress } = options;
  const { idleMs = IDLE_MS, arrivalMs = ARRIVAL_MS, seenEveryMs = SEEN_EVERY_MS } = options;
  /** By address: two toolboxes of one address are one DTMA. */
  const direct = new Map<string, Direct>();
  const tunnels = new Map<string, Link>();
  const elsewhere = new Map<string, { address: string; at: number }>();
  const fetched = new Set<Promise<unknown>>();
  let arrived = Promise.withResolvers<void>();
  let takesTunnels = true;
  let isClosed = false;
  let isChecking = false;

  const watching = setInterval(watch, Math.min(idleMs, seenEveryMs));
  changes.watch(({ table }) => table === "toolboxes", () => closeRevoked());

  return { wayTo, tunnelOf: openTunnel, accept, forget, waitFor, endTunnels, close };

  function wayTo(target: Target, signal?: CallSignal): Way | Promise<Way> {
    const way = target.reach === "direct"
      ? wayToAddress(target.address)
      : wayToTunnel(target.toolboxId);
    return way instanceof Promise ? orAborted(way, signal) : way;
  }

  // ── Toolboxes that the app dials ───────────────────────────────────────────────────────────────

  function wayToAddress(address: string | null): Way | Promise<Way> {
    if (address === null) {
      return { unavailable: "its toolbox gave no address that calls may go to" };
    }
    const known = direct.get(address);
    if (known?.link?.isOpen) return { link: known.link };
    const base = new URL(address);
    const wayOf = (link: Link | null): Way => link?.isOpen ? { link } : { base };
    if (known?.isOpening) return known.opening.then(wayOf);
    const failedJustNow = known?.link === null && Date.now() - known.at < RETRY_MS;
    if (isClosed || failedJustNow) return { base };
    const opening = dialled(base);
    const entry: Direct = { opening, isOpening: true, link: null, at: 0 };
    direct.set(address, entry);
    opening.then((link) => Object.assign(entry, { isOpening: false, link, at: Date.now() }));
    return opening.then(wayOf);
  }

  async function dialled(base: URL): Promise<Link | null> {
    const url = new URL("/link", base);
    const key = { keyId: "app", privateKey: appSigningKey.privateKey };
    try {
      const signed = signRequest({ method: "GET", url, body: new Uint8Array() }, key);
      return await dialledLink(await dial(url, signed), SIDES);
    } catch (error) {
      log.warn("A link to a toolbox could not be opened; calls go one by one", {
        address: base.origin,
        ...errorFields(error),
      });
      return null;
    }
  }

  // ── Toolboxes that dial the app ────────────────────────────────────────────────────────────────

  function openTunnel(toolboxId: string): Link | null {
    const link = tunnels.get(toolboxId);
    return link?.isOpen ? link : null;
  }

  function wayToTunnel(toolboxId: string): Way | Promise<Way> {
    const link = openTunnel(toolboxId);
    return link ? { link } : wayElsewhere(toolboxId);
  }

  /** The replica where the link ends, or the link itself when it comes here meanwhile. */
  async function wayElsewhere(toolboxId: string): Promise<Way> {
    const until = Date.now() + arrivalMs;
    for (;;) {
      const address = await replicaOf(toolboxId);
      const link = openTunnel(toolboxId);
      if (link) return { link };
      if (address) return { base: new URL(`${address}/toolbox/forward/${toolboxId}/`) };
      const restMs = until - Date.now();
      const mayCome = takesTunnels || ownAddress() !== null;
      if (restMs <= 0 || isClosed || !mayCome) {
        return { unavailable: "its toolbox has no link open to Mooring; it dials again by itself" };
      }
      await first(arrived.promise, Math.min(restMs, LOOK_MS));
    }
  }

  async function replicaOf(toolboxId: string): Promise<string | null> {
    const known = elsewhere.get(toolboxId);
    if (known && Date.now() - known.at < FOUND_MS) return known.address;
    elsewhere.delete(toolboxId);
    try {
      const address = await replicaOfTunnel(db, toolboxId);
      // A row of our own outlived its link: the toolbox is about to dial again.
      if (address === null || address === ownAddress()) return null;
      if (elsewhere.size > 1000) elsewhere.clear();
      elsewhere.set(toolboxId, { address, at: Date.now() });
      return address;
    } catch (error) {
      log.error("The replica of a toolbox's link could not be looked up", errorFields(error));
      return null;
    }
  }

  function forget(toolboxId: string): void {
    elsewhere.delete(toolboxId);
  }

  async function accept(toolboxId: string, socket: WebSocket): Promise<void> {
    const purpose = tunnelPurpose(toolboxId);
    let link: Link;
    try {
      link = await acceptedLink(linkSocket(socket), {
        ...SIDES,
        prove: (challenge) => prove(purpose, challenge, appSigningKey.privateKey),
      });
    } catch (error) {
      log.warn("A toolbox's link was not made", { toolbox: toolboxId, ...errorFields(error) });
      return;
    }
    if (!takesTunnels) return link.close("The app stops");
    const before = tunnels.get(toolboxId);
    tunnels.set(toolboxId, link);
    // Its toolbox lost it, whether we know yet or not; what is under way may still be answered.
    before?.end("A newer link took its place");
    arrived.resolve();
    arrived = Promise.withResolvers();
    await tell("opened", toolboxId, putTunnel);
    link.closed.then(async (reason) => {
      log.info("A toolbox's link is closed", { toolbox: toolboxId, reason });
      if (tunnels.get(toolboxId) !== link) return;
      tunnels.delete(toolboxId);
      await tell("closed", toolboxId, dropTunnel);
    });
    log.info("A toolbox opened a link", { toolbox: toolboxId });
  }

  /** Tells the other replicas. */
  async function tell(what: string, toolboxId: string, write: typeof putTunnel): Promise<void> {
    const address = ownAddress();
    if (address === null) return;
    try {
      await write(db, toolboxId, address);
    } catch (error) {
      log.error(`That a toolbox's link is ${what} could not be written`, errorFields(error));
    }
  }

  function ownAddress(): string | null {
    return replicaAddress && replicaAddress.href.replace(/\/+$/, "");
  }

  // ── Their ends ─────────────────────────────────────────────────────────────────────────────────

  async function watch(): Promise<void> {
    for (const [address, { isOpening, link }] of direct) {
      if (isOpening || link?.isOpen && link.idleMs < idleMs) continue;
      direct.delete(address);
      link?.end("No call for a while");
    }
    for (const toolboxId of tunnels.keys()) await tell("open", toolboxId, tunnelSeen);
    await closeRevoked();
  }

  /** A toolbox that was revoked must not be called any more. */
  async function closeRevoked(): Promise<void> {
    if (isChecking) return;
    isChecking = true;
    // Toolboxes change all the time, by being heard of: one look serves for many changes.
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    isChecking = false;
    for (const [toolboxId, link] of [...tunnels]) {
      try {
        if (!await toolboxKey(db, toolboxId)) link.close("This toolbox was revoked");
      } catch {
        // Without a database nothing is known; the next look is soon.
      }
    }
  }

  function waitFor(call: Promise<unknown>): void {
    fetched.add(call);
    const forget = () => fetched.delete(call);
    call.then(forget, forget);
  }

  async function endTunnels(timeoutMs: number): Promise<void> {
    takesTunnels = false;
    // At once, for what is forwarded here from now on comes to nothing. A database that is away is not waited for.
    for (const toolboxId of tunnels.keys()) tell("closed", toolboxId, dropTunnel);
    await ended([...tunnels.values()], timeoutMs);
  }

  async function close(timeoutMs = 5000): Promise<void> {
    isClosed = true;
    clearInterval(watching);
    const open = [...direct.values()].map(async ({ opening }) => {
      const link = await opening;
      if (link) await ended([link], timeoutMs);
    });
    const answered = first(Promise.allSettled(fetched), timeoutMs);
    await Promise.all([...open, endTunnels(timeoutMs), answered]);
  }

  async function ended(links: Link[], timeoutMs: number): Promise<void> {
    await Promise.all(links.map((link) => link.end("The app stops", timeoutMs)));
  }
}

async function first(promise: Promise<unknown>, ms: number): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  await Promise.race([promise, new Promise((resolve) => timer = setTimeout(resolve, ms))]);
  clearTimeout(timer);
}

/** A promise, or the reason of an abort, whichever comes first. */
async function orAborted<T>(promise: Promise<T>, signal: CallSignal | undefined): Promise<T> {
  if (!signal) return await promise;
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const stop = () => reject(signal.reason);
  signal.addEventListener("abort", stop, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}
