/** Every pairing of a client's era with a server's, and what of the suite's checks each one keeps. */
import { openBridge } from "../mcp/world.ts";
import { openTokenProxy } from "./token_proxy.ts";
import { type Outcome, type Results, runSuite } from "./suite.ts";

type Era = "legacy" | "modern";

/** The suite as a client of one revision. */
export interface Client {
  name: string;
  version: string;
  choice: string[];
  era: Era;
}

/** A server behind the bridge. */
export interface Upstream {
  name: string;
  /** Opens it behind the bridge; the URL is its own scope there, with names untouched. */
  open(): Promise<{ url: string; token: string } & AsyncDisposable>;
}

/** One check that passes directly and not through the bridge. */
export type Lost = Outcome & { check: string };

export interface Pairing {
  client: string;
  upstream: string;
  /** How many checks pass directly, and how many of those through the bridge too. */
  direct: number;
  kept: number;
  lost: Lost[];
  /** What fails with nothing in between: then it is the everything server that is wrong. */
  broken: Lost[];
}

export const CLIENTS: Client[] = [
  {
    name: "2025-11-25 (0.1.16)",
    version: "0.1.16",
    choice: ["--suite", "all"],
    era: "legacy",
  },
  {
    name: "2025-11-25 (0.2.0-alpha.12)",
    version: "0.2.0-alpha.12",
    choice: ["--requirements", "2025-11-25"],
    era: "legacy",
  },
  {
    name: "2026-07-28 (0.2.0-alpha.12)",
    version: "0.2.0-alpha.12",
    choice: ["--requirements", "2026-07-28"],
    era: "modern",
  },
];

export const UPSTREAMS: Upstream[] = [
  { name: "stdio 2025-11-25", open: () => openBehind(script("legacy"), []) },
  { name: "stdio 2026-07-28", open: () => openBehind(script("modern"), []) },
  { name: "http 2025-11-25", open: () => openRemote("legacy") },
  { name: "http 2026-07-28", open: () => openRemote("modern") },
];

async function openBehind(script: string, args: string[]) {
  const slug = "everything";
  const bridge = await openBridge(script, { slug, args });
  return {
    url: `${bridge.url}/${slug}`,
    token: bridge.token,
    [Symbol.asyncDispose]: () => bridge[Symbol.asyncDispose](),
  };
}

/** A remote server, before which the adapter stands as it does in a container. */
async function openRemote(era: Era) {
  const server = await serveDirectly(era);
  const behind = await openBehind(ADAPTER, [server.url]);
  return {
    ...behind,
    async [Symbol.asyncDispose]() {
      await behind[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

/**
 * Runs each wanted pairing. What a client would get if it could speak to a server of its own revision
 * with nothing in between is what the bridge is held against.
 *
 * @param directory where the suite's own results are kept
 */
export async function runPairings(
  directory: string,
  wanted: (client: Client, upstream: Upstream) => boolean = () => true,
): Promise<Pairing[]> {
  const pairings: Pairing[] = [];
  for (const client of CLIENTS) {
    const upstreams = UPSTREAMS.filter((upstream) => wanted(client, upstream));
    if (upstreams.length === 0) continue;
    const results = (of: string) =>
      `${directory}/${`${client.name} ${of}`.replace(/[ ()]+/g, "-")}`;
    const direct = await runDirectly(client, results("directly"));
    for (const upstream of upstreams) {
      const through = await runThrough(client, upstream, results(upstream.name));
      pairings.push({
        client: client.name,
        upstream: upstream.name,
        ...compare(direct, through),
      });
    }
  }
  return pairings;
}

async function runDirectly({ era, version, choice }: Client, directory: string): Promise<Results> {
  await using server = await serveDirectly(era);
  return await runSuite(version, ["server", "--url", server.url, ...choice], directory);
}

async function runThrough({ version, choice }: Client, upstream: Upstream, directory: string) {
  await using server = await upstream.open();
  using proxy = openTokenProxy(server.url, server.token);
  return await runSuite(version, ["server", "--url", proxy.url, ...choice], directory);
}

/** Holds both results together, check by check: a pass that is not one any more is lost. */
export function compare(direct: Results, through: Results): Omit<Pairing, "client" | "upstream"> {
  const passed = [...direct].filter(([, { status }]) => status === "SUCCESS");
  const broken = [...direct].filter(([, { status }]) => status === "FAILURE");
  const lost = passed.flatMap(([check]): Lost[] => {
    const outcome = through.get(check) ?? { status: "SKIPPED", message: "It was not reached" };
    return outcome.status === "SUCCESS" ? [] : [{ check, ...outcome }];
  });
  return {
    direct: passed.length,
    kept: passed.length - lost.length,
    lost: lost.toSorted((a, b) => a.check < b.check ? -1 : 1),
    broken: broken.map(([check, outcome]) => ({ check, ...outcome })),
  };
}

async function serveDirectly(era: Era): Promise<{ url: string } & AsyncDisposable> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "-A", "--no-check", `--lock=${TESTS_LOCK}`, script(era), "http"],
    stdin: "null",
    stdout: "piped",
  }).spawn();
  const lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const { value = "" } = await lines.read();
  return {
    url: value.trim(),
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await child.status;
      await lines.cancel();
    },
  };
}

export const ADAPTER = new URL("../../dtma/remote_adapter/main.mts", import.meta.url).pathname;
export const TESTS_LOCK = new URL("../deno.lock", import.meta.url).pathname;
const script = (era: Era) => new URL(`everything_${era}.ts`, import.meta.url).pathname;
