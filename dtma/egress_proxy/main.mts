/**
 * The egress proxy of one toolbox: stands on the network of every server that declared hosts, is
 * their name server, and lets streams through to what each declared. DTMA tells it all that over
 * stdio, one JSON value a line, and may be away: then it goes on with what it was told last.
 */
import { Resolver } from "node:dns/promises";
import { networkInterfaces } from "node:os";
import { Denials } from "./denials.mts";
import { networks as ranges } from "./hosts.mts";
import { httpSide } from "./http_side.mts";
import { Network, type NetworkConfig, type Shared } from "./network.mts";

/** What DTMA says, whole each time. */
interface Config {
  privateNetworks: string[];
  addresses: Record<string, string[]>;
  /** By the container's name. */
  networks: Record<string, NetworkConfig>;
}

type Command =
  /** Asks for the configuration that is in force: a DTMA that has just come. */
  | { kind: "hello"; id: string }
  | { kind: "configure"; id: string; config: Config }
  /** The denials of that number were taken over. */
  | { kind: "taken"; batch: number };

/** Hundreds of servers with 64 hosts of 250 letters. */
const LINE_LIMIT_BYTES = 16 * 1024 * 1024;

const DENIALS_EVERY_MS = 1000;
const DENIALS_AT_ONCE = 200;

/** What nobody reads is not written: an answer or a batch that is lost is asked for again. */
const UNREAD_LIMIT_BYTES = 1024 * 1024;

let config: Config = { privateNetworks: [], addresses: {}, networks: {} };
const open = new Map<string, Network>();
const denials = new Denials();
const shared: Shared = {
  denials,
  resolver: new Resolver({ timeout: 3000, tries: 2 }),
  privateNetworks: ranges([]),
  own: ranges([]),
  addresses: {},
  clientCount: 0,
  serveHttp: httpSide(),
};

/** @returns why networks could not be opened, by the container's name */
async function configure(next: Config): Promise<Record<string, string>> {
  shared.privateNetworks = ranges(next.privateNetworks);
  shared.addresses = next.addresses;
  shared.own = ranges(Object.values(next.networks).map(({ subnet }) => subnet));
  for (const interfaces of Object.values(networkInterfaces())) {
    for (const { address, family, internal } of interfaces ?? []) {
      if (family === "IPv4" && !internal) shared.own.addAddress(address);
    }
  }
  const failed: Record<string, string> = {};
  for (const [container, network] of open) {
    const { subnet, address, serverId } = network.config;
    const same = next.networks[container];
    if (same?.subnet === subnet && same.address === address && same.serverId === serverId) continue;
    network.close();
    open.delete(container);
  }
  await Promise.all(
    Object.entries(next.networks).map(async ([container, wanted]) => {
      const present = open.get(container);
      const network = present ?? new Network(shared, wanted);
      try {
        await (present ? present.update(wanted) : network.open());
        open.set(container, network);
      } catch (error) {
        network.close();
        open.delete(container);
        failed[container] = (error as Error).message;
      }
    }),
  );
  config = next;
  return failed;
}

/** The batch that is under way; sent again until a DTMA has taken it. */
let batch: { number: number; denials: ReturnType<Denials["take"]> } | null = null;
let batches = 0;

function sendDenials(): void {
  if (batch) return;
  const taken = denials.take(DENIALS_AT_ONCE);
  if (taken.length === 0) return;
  batch = { number: ++batches, denials: taken };
  say({ kind: "denied", batch: batch.number, denials: taken });
}

function say(message: unknown): void {
  // Nothing blocks on standard output: Node queues for a pipe that is full (tried with Node 24).
  if (process.stdout.writableLength > UNREAD_LIMIT_BYTES) return;
  process.stdout.write(JSON.stringify(message) + "\n");
}

let turn = Promise.resolve();

function obey(command: Command): void {
  if (command.kind === "hello") {
    say({ kind: "state", id: command.id, config });
    if (batch) say({ kind: "denied", batch: batch.number, denials: batch.denials });
  } else if (command.kind === "configure") {
    turn = turn.then(async () => {
      let failed: Record<string, string> = {};
      let error: string | null = null;
      try {
        failed = await configure(command.config);
      } catch (thrown) {
        error = (thrown as Error).message;
      }
      say({ kind: "configured", id: command.id, failed, error });
    });
  } else if (command.kind === "taken" && command.batch === batch?.number) {
    batch = null;
  }
}

let pending: Buffer[] = [];
let pendingBytes = 0;
process.stdin.on("data", (chunk: Buffer) => {
  for (let start = 0;;) {
    const end = chunk.indexOf(10, start);
    const part = end < 0 ? chunk.subarray(start) : chunk.subarray(start, end);
    pendingBytes += part.length;
    if (pendingBytes <= LINE_LIMIT_BYTES) pending.push(part);
    if (end < 0) return;
    const line = Buffer.concat(pending).toString();
    const whole = pendingBytes <= LINE_LIMIT_BYTES;
    pending = [];
    pendingBytes = 0;
    start = end + 1;
    if (!whole || !line.trim()) continue;
    let command: Command;
    try {
      command = JSON.parse(line);
    } catch {
      // The half line of a DTMA that ended while it wrote.
      continue;
    }
    obey(command);
  }
});

setInterval(sendDenials, DENIALS_EVERY_MS);
process.stdout.on("error", () => {});
process.on("SIGTERM", () => process.exit(0));
// One stream's trouble must not cut those of all servers; nothing is let through by an error.
process.on("uncaughtException", (error) => {
  if (process.stderr.writableLength < UNREAD_LIMIT_BYTES) console.error(error.stack ?? error);
});
