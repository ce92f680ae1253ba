/**
 * What an open session costs: the real app and its real DTMA with one server in a container, on a Postgres
 * server of its own, and clients that keep what clients keep open, the stream beside their calls.
 */
import { KINDS } from "../models/databases.ts";
import { cpuUs, residentMb, residentTogetherMb } from "./cpu.ts";
import { callOf, isRight } from "./direct.ts";
import { quantile } from "./load.ts";
import { type Mooring, startMooring } from "./mooring.ts";

/** Streams of one token that a replica takes. */
const STREAMS_A_TOKEN = 250;

/** Until what was needed to get there is let go of. */
const REST_MS = 30_000;

export async function measureSessions(number: number): Promise<void> {
  const server = KINDS[1];
  if (server.ignore) return console.log("\nsessions: skipped, since there is no Postgres server");
  const database = await server.open();
  {
    await using mooring = await startMooring({ environment: { DATABASE_URL: database.url! } });
    await keepOpen(mooring, number);
  }
  await database.close();
}

async function keepOpen(mooring: Mooring, number: number): Promise<void> {
  const tokens: string[] = [];
  for (let n = 0; n * STREAMS_A_TOKEN < number; n++) tokens.push(await mooring.agent(`agent ${n}`));
  const tokenOf = (n: number) => tokens[Math.floor(n / STREAMS_A_TOKEN)];
  // What is made once, at the first of anything, is no session's.
  for (let n = 0; n < 20; n++) await callIn(mooring, tokens[0], await open(mooring, tokens[0]));
  const before = await atRest(mooring);
  const pid = mooring.processes!.app, beforeUs = await cpuUs(pid);

  const times: number[] = [], ids: string[] = [];
  for (let n = 0; n < number; n++) {
    const started = performance.now();
    ids.push(await open(mooring, tokenOf(n)));
    times.push(performance.now() - started);
  }
  const usedUs = (await cpuUs(pid) - beforeUs) / number;
  const streams = await Promise.all(ids.map((id, n) => stream(mooring, tokenOf(n), id)));
  const opened = await atRest(mooring);
  for (const [n, id] of ids.entries()) await callIn(mooring, tokenOf(n), id);
  const used = await atRest(mooring);
  for (const { close } of streams) close();

  const of = (share: number) => `${quantile(times, share).toFixed(2)} ms`;
  console.log(`\nsessions: ${number} opened one after the other and kept, each with its stream`);
  console.log(
    `initialize p50 ${of(0.5)}, p95 ${of(0.95)}, p99 ${of(0.99)}; app ${
      usedUs.toFixed(0)
    } us of CPU`,
  );
  const rows = { before, "with them": opened, "after a call in each": used };
  for (const [when, { app, DTMA, together }] of Object.entries(rows)) {
    console.log(
      `${when.padEnd(22)} app ${app.toFixed(0)} MB, DTMA ${DTMA.toFixed(0)} MB, both ${
        (app + DTMA).toFixed(0)
      } MB, with the program that both run counted once ${together.toFixed(0)}`,
    );
  }
  const each = (used.app + used.DTMA - before.app - before.DTMA) * 1024 / number;
  const least = await bareStreams(number) * 1024 / number;
  console.log(
    `${each.toFixed(1)} KB a session; a stream of the least Deno server ${least.toFixed(1)} KB`,
  );
}

/** What as many streams cost a server that does nothing else, in MB. */
async function bareStreams(number: number): Promise<number> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", "--no-check", new URL("./streams.ts", import.meta.url).pathname],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const url = (await reader.read()).value!.trim();
  const beforeMb = await residentMb(child.pid);
  const ends = await Promise.all(Array.from({ length: number }, () => kept(fetchOf(url))));
  const withMb = await residentMb(child.pid);
  for (const { close } of ends) close();
  child.kill("SIGTERM");
  await child.status;
  return withMb - beforeMb;
}

async function atRest(mooring: Mooring): Promise<Record<string, number>> {
  await new Promise((resolve) => setTimeout(resolve, REST_MS));
  const { app, DTMA } = mooring.processes!;
  return { ...await mooring.memory(), together: await residentTogetherMb([app, DTMA]) };
}

function headersOf(token: string, session?: string): Record<string, string> {
  return {
    authorization: `Bearer ${token}`,
    "content-type": "application/json",
    accept: "application/json, text/event-stream",
    "mcp-protocol-version": "2025-11-25",
    ...(session ? { "mcp-session-id": session } : {}),
  };
}

async function post({ url }: Mooring, token: string, body: string, session?: string) {
  return await fetch(url, { method: "POST", headers: headersOf(token, session), body });
}

const INITIALIZE = JSON.stringify({
  jsonrpc: "2.0",
  id: 1,
  method: "initialize",
  params: {
    protocolVersion: "2025-11-25",
    capabilities: {},
    clientInfo: { name: "bench", version: "1" },
  },
});

/** @returns the session's id */
async function open(mooring: Mooring, token: string): Promise<string> {
  const response = await post(mooring, token, INITIALIZE);
  await response.text();
  return response.headers.get("mcp-session-id")!;
}

/** The session's own stream, which stays open. */
function stream({ url }: Mooring, token: string, session: string) {
  return kept(fetchOf(url, headersOf(token, session)));
}

function fetchOf(url: string, headers: Record<string, string> = {}) {
  return (signal: AbortSignal) => fetch(url, { headers, signal });
}

async function kept(open: (signal: AbortSignal) => Promise<Response>) {
  const end = new AbortController();
  const response = await open(end.signal);
  if (response.status !== 200) throw new Error(`A stream was answered ${response.status}`);
  response.body!.pipeTo(new WritableStream()).catch(() => {});
  return { close: () => end.abort() };
}

async function callIn(mooring: Mooring, token: string, session: string): Promise<void> {
  const text = await (await post(mooring, token, callOf("bench__echo"), session)).text();
  if (!isRight(text)) throw new Error(`A call in an open session failed: ${text.slice(0, 300)}`);
}
