/** DTMA's side of what it speaks with the egress proxy, over the proxy container's stdio. */
import { z } from "zod";
import type { Attachment, Docker } from "./docker.ts";
import { readFrames } from "./frames.ts";
import type { Log } from "./log.ts";
import { Denial } from "./protocol.ts";

const ProxyConfig = z.object({
  privateNetworks: z.array(z.string()),
  /** Hosts by name whose addresses are not looked up. */
  addresses: z.record(z.string(), z.array(z.string())),
  /** By the container's name. */
  networks: z.record(
    z.string(),
    z.object({
      serverId: z.uuid(),
      subnet: z.string(),
      /** The proxy's on it. */
      address: z.string(),
      hosts: z.array(z.string()),
    }),
  ),
});

/** Everything the proxy is told, whole each time. */
export type ProxyConfig = z.infer<typeof ProxyConfig>;

/** What the proxy says. It reads hostile streams: what it says is checked like them. */
const Message = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("state"), id: z.uuid(), config: ProxyConfig }),
  z.object({
    kind: z.literal("configured"),
    id: z.uuid(),
    /** Why a network could not be opened, by its container's name. */
    failed: z.record(z.string(), z.string()),
    error: z.string().nullable(),
  }),
  z.object({ kind: z.literal("denied"), batch: z.int(), denials: z.array(Denial).max(1000) }),
]);
type Answer = Exclude<z.infer<typeof Message>, { kind: "denied" }>;

/** A proxy that is spoken to. */
export interface ProxyLink {
  /** What it let through when it was attached to. */
  inForce: ProxyConfig;
  /** Resolves when it is in force. @returns why networks failed, by container */
  configure(config: ProxyConfig): Promise<Record<string, string>>;
  /** Resolves when the proxy ended, hung, or was let go of. */
  closed: Promise<void>;
  close(): void;
}

/** A proxy that does not answer for so long hangs; a busy one answers in milliseconds. */
const ANSWER_MS = 30_000;

/** What the proxy is told, back from it. */
const LINE_LIMIT_BYTES = 32 * 1024 * 1024;

/** Lines of the proxy's own trouble in DTMA's log, at most, between two minutes. */
const LOG_LINES = 20;

/**
 * Attaches to the proxy and asks what is in force.
 *
 * @param start it was made just now; one that ended is not started again but made anew, because
 *   with several networks the engine may take another one's gateway for the way out
 */
export async function openProxyLink(
  docker: Docker,
  containerId: string,
  { start, log, onDenied }: { start: boolean; log: Log; onDenied: (denial: Denial) => void },
): Promise<ProxyLink> {
  const attachment = await docker.attachContainer(containerId);
  const waiting = new Map<string, (answer: Answer | null) => void>();
  const writer = attachment.stdin.getWriter();
  const write = async (message: unknown, before = "") => {
    await writer.write(new TextEncoder().encode(`${before}${JSON.stringify(message)}\n`));
  };
  const over = new AbortController();
  const closed = attachment.closed.then(() => {
    over.abort();
    for (const answer of waiting.values()) answer(null);
    waiting.clear();
  });

  async function request(command: Record<string, unknown>, before?: string): Promise<Answer> {
    const id = crypto.randomUUID();
    const { promise, resolve } = Promise.withResolvers<Answer | null>();
    waiting.set(id, resolve);
    const timer = setTimeout(() => {
      log("warning", "The egress proxy does not answer");
      attachment.close();
      // What hangs lets nothing through either: it is removed, and made again.
      docker.killContainer(containerId).catch(() => {});
    }, ANSWER_MS);
    try {
      await write({ ...command, id }, before).catch(() => attachment.close());
      const answer = await promise;
      if (!answer) throw new Error("The egress proxy went away");
      return answer;
    } finally {
      clearTimeout(timer);
      waiting.delete(id);
    }
  }

  readFrames(attachment.stdout, (frame) => {
    const parsed = frame.kind === "message" ? Message.safeParse(frame.value) : null;
    if (!parsed?.success) return log("warning", "The egress proxy said what was not understood");
    const message = parsed.data;
    if (message.kind !== "denied") return waiting.get(message.id)?.(message);
    message.denials.forEach(onDenied);
    write({ kind: "taken", batch: message.batch }).catch(() => {});
  }, { limitBytes: LINE_LIMIT_BYTES }).catch(() => attachment.close());
  void logErrors(attachment, log);

  try {
    if (start) await docker.startContainer(containerId);
    // An attachment to a container that is just being killed does not end by itself.
    docker.waitContainer(containerId, over.signal)
      .catch(() => {}).finally(() => attachment.close());
    // The DTMA before may have ended in the middle of a line.
    const answer = await request({ kind: "hello" }, "\n");
    if (answer.kind !== "state") throw new Error("The egress proxy answered something else");
    return {
      inForce: answer.config,
      closed,
      close: () => attachment.close(),
      async configure(config) {
        const answer = await request({ kind: "configure", config });
        if (answer.kind !== "configured") throw new Error("The egress proxy answered wrongly");
        if (answer.error) throw new Error(`The egress proxy refused: ${answer.error}`);
        return answer.failed;
      },
    };
  } catch (error) {
    attachment.close();
    throw error;
  }
}

async function logErrors(attachment: Attachment, log: Log): Promise<void> {
  let left = LOG_LINES;
  const refill = setInterval(() => left = LOG_LINES, 60_000);
  Deno.unrefTimer(refill);
  try {
    for await (const text of attachment.stderr.pipeThrough(decoder())) {
      for (const line of text.split("\n")) {
        if (line.trim() && left-- > 0) log("warning", `Egress proxy: ${line.slice(0, 500)}`);
      }
    }
  } catch {
    // The attachment's end is told by `closed`.
  } finally {
    clearInterval(refill);
  }
}

function decoder(): TransformStream<Uint8Array, string> {
  return new TextDecoderStream() as unknown as TransformStream<Uint8Array, string>;
}
