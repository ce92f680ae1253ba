/** The link of a toolbox that nobody can dial: this DTMA dials the app and keeps one open. */
import { dial, DialError } from "./dial.ts";
import { dialledLink, type Link, LinkError, type LinkOptions, tunnelPurpose } from "./link.ts";
import type { Log } from "./log.ts";
import { PROTOCOL_VERSION } from "./protocol.ts";
import { isProof, signRequest } from "./signature.ts";
import { sleep } from "./waiting.ts";

const FIRST_DELAY_MS = 250;
const LONGEST_DELAY_MS = 30_000;
/** A link that held so long ended for a reason of its own: the next is tried at once. */
const STEADY_MS = 10_000;
/** An app that is stopping takes links and ends them at once: it, or the next, is back soon. */
const LONGEST_AFTER_LINK_MS = 2000;

export interface TunnelOptions {
  /** The app's base URL. */
  appUrl: string;
  /** The toolbox's id and key. */
  key: { keyId: string; privateKey: string };
  /** The app's key of now. */
  appPublicKey: () => string;
  serve: NonNullable<LinkOptions["serve"]>;
  /** Told of each link that was made; the last one is its to end. */
  onLink?: (link: Link) => void;
  log: Log;
}

/** Sees to it that there is a link to the app until `signal` is aborted; what fails is tried again. */
export async function keepTunnel(options: TunnelOptions, signal: AbortSignal): Promise<void> {
  const { onLink, log } = options;
  let ceilingMs = FIRST_DELAY_MS;
  while (!signal.aborted) {
    const startedMs = performance.now();
    try {
      const link = await openTunnel(options, signal);
      log("info", "The link to the app is open");
      onLink?.(link);
      const reason = await overOrAborted(link, signal);
      if (reason === null) return;
      log("info", `The link to the app is closed: ${reason}`);
      const isSteady = performance.now() - startedMs > STEADY_MS;
      ceilingMs = isSteady ? FIRST_DELAY_MS : Math.min(ceilingMs, LONGEST_AFTER_LINK_MS);
    } catch (error) {
      if (signal.aborted) return;
      log("warning", `No link to the app, will try again: ${wordsOf(error)}`);
    }
    // Full jitter: all toolboxes lose their links at once when the app restarts.
    await sleep(Math.random() * ceilingMs, signal);
    ceilingMs = Math.min(2 * ceilingMs, LONGEST_DELAY_MS);
  }
}

async function openTunnel(options: TunnelOptions, signal: AbortSignal): Promise<Link> {
  const { appUrl, key, appPublicKey, serve } = options;
  const url = new URL(`${appUrl}/toolbox/link`);
  const signed = signRequest({ method: "GET", url, body: new Uint8Array() }, key);
  const socket = await dial(url, signed, { signal });
  const purpose = tunnelPurpose(key.keyId);
  return await dialledLink(socket, {
    version: PROTOCOL_VERSION,
    self: "the toolbox's DTMA",
    peer: "the app",
    serve,
    isProof: (challenge, proof) => isProof(purpose, challenge, proof, appPublicKey()),
  });
}

/**
 * Why no more calls come over the link; null when the signal was aborted before. What is under way on one that
 * the app ends is still answered there, while the next is opened, perhaps to another replica.
 */
async function overOrAborted(link: Link, signal: AbortSignal): Promise<string | null> {
  const { promise, resolve } = Promise.withResolvers<null>();
  const stop = () => resolve(null);
  if (signal.aborted) stop();
  signal.addEventListener("abort", stop, { once: true });
  try {
    const ending = link.ending.then(() => "the app ends it");
    return await Promise.race([link.closed, ending, promise]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

function wordsOf(error: unknown): string {
  if (error instanceof DialError && error.status === 404) {
    return "The app at MOORING_URL knows no links; upgrade it";
  }
  if (error instanceof LinkError || error instanceof Error) return error.message.slice(0, 500);
  return String(error);
}
