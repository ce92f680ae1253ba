/** The ways without Mooring: the server's pipe itself, and the least HTTP hop before it. */

/** Something that makes one call and says whether its answer was right. */
export interface Caller {
  call(): Promise<boolean>;
  /** The processes whose CPU time is a call's, by what they are called. */
  processes?: Record<string, number>;
}

/** The message that is echoed, and what the answer must hold. */
const MESSAGE = "hello";

const INITIALIZE = {
  jsonrpc: "2.0",
  id: 0,
  method: "initialize",
  params: {
    protocolVersion: "2025-11-25",
    capabilities: {},
    clientInfo: { name: "bench", version: "1" },
  },
};

/** A stdio server started here, with many calls in flight by their ids. */
export async function pipe(
  script: string,
): Promise<Caller & AsyncDisposable & { ask(body: string): Promise<string> }> {
  const child = new Deno.Command("node", {
    args: [script],
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const writer = child.stdin.getWriter();
  const encoder = new TextEncoder();
  const waiting = new Map<number, (line: string) => void>();
  let nextId = 1;
  (async () => {
    let rest = "";
    for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop()!;
      for (const line of lines) {
        const { id } = JSON.parse(line);
        waiting.get(id)?.(line);
        waiting.delete(id);
      }
    }
  })();
  const send = (message: unknown) => writer.write(encoder.encode(JSON.stringify(message) + "\n"));
  const ask = (body: string): Promise<string> => {
    const id = nextId++;
    const answer = new Promise<string>((resolve) => waiting.set(id, resolve));
    send({ ...JSON.parse(body), id });
    return answer;
  };
  await ask(JSON.stringify(INITIALIZE));
  await send({ jsonrpc: "2.0", method: "notifications/initialized" });
  return {
    ask,
    call: async () => (await ask(callOf("echo"))).includes(MESSAGE),
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await child.status;
    },
  };
}

/** The ideal forwarder, as a process of its own. */
export function forwarder(script: string): Promise<Hop> {
  return hop("./forwarder.ts", [script]);
}

/** The app's and DTMA's part of a call, without pages, database and Docker. */
export function dataPathHops(
  script: string,
  how: "fetch" | "direct" | "tunnel",
): Promise<Hop> {
  return hop("./app_hop.ts", [how, script]);
}

/** A way that any message can be sent by. */
export interface Hop extends Caller, AsyncDisposable {
  post(body: string): Promise<string>;
}

/** A process of its own that takes POSTs and prints where. */
async function hop(module: string, args: string[]): Promise<Hop> {
  const path = new URL(module, import.meta.url).pathname;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", "--no-check", path, ...args],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const url = (await reader.read()).value!.trim();
  const post = async (body: string) => await (await fetch(url, { method: "POST", body })).text();
  return {
    processes: { hop: child.pid },
    post,
    call: async () => (await post(callOf("echo"))).includes(MESSAGE),
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await child.status;
    },
  };
}

/** The text of a call of the echo tool. */
export function callOf(name: string): string {
  return JSON.stringify({
    jsonrpc: "2.0",
    id: 1,
    method: "tools/call",
    params: { name, arguments: { message: MESSAGE } },
  });
}

export function isRight(text: string): boolean {
  return text.includes(MESSAGE) && !text.includes("isError");
}
