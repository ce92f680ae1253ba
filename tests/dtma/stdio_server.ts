/** What the tests of sessions share: MCP servers as local node processes, ended with their test. */
import { openSession, type Session, type SessionOptions } from "../../dtma/session.ts";

const FIXTURES = new URL("../fixtures/servers/", import.meta.url);
const LOCK = new URL("../deno.lock", import.meta.url).pathname;
const CACHE = new URL("../../.cache/", import.meta.url);

export interface StdioServer extends AsyncDisposable {
  child: Deno.ChildProcess;
  /** Opens a session with it; what it logs is kept in `logged`. */
  open(options?: Partial<SessionOptions>): Promise<Session>;
  logged: string[];
}

export interface StartOptions {
  args?: string[];
  env?: Record<string, string>;
  /** What runs the script, where that is not told by its name. */
  command?: string[];
}

/**
 * Starts a fixture by its name, or any script by its path: one in TypeScript under Deno, with the
 * tests' packages. Its stderr is read and forgotten.
 */
export function startServer(
  script: string,
  { args = [], env = {}, command }: StartOptions = {},
): StdioServer {
  const path = script.includes("/") ? script : new URL(`${script}.mjs`, FIXTURES).pathname;
  const deno = [Deno.execPath(), "run", "--quiet", "-A", "--no-check", `--lock=${LOCK}`];
  const [program, ...before] = command ?? (/\.m?ts$/.test(path) ? deno : ["node"]);
  const child = new Deno.Command(program, {
    args: [...before, path, ...args],
    env,
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const logged: string[] = [];
  const sessions: Session[] = [];
  return {
    child,
    logged,
    async open(options = {}) {
      const session = await openSession(child, {
        handshakeTimeoutMs: 30_000,
        log: (line) => logged.push(line),
        ...options,
      });
      sessions.push(session);
      return session;
    },
    async [Symbol.asyncDispose]() {
      for (const session of sessions) session.close("The test is over");
      try {
        child.kill("SIGKILL");
      } catch {
        // It ended by itself.
      }
      await child.status;
      await child.stdin.close().catch(() => {});
      await child.stdout.cancel().catch(() => {});
    },
  };
}

/**
 * Attaches to a process again and again, as Docker lets one do: every attachment writes to the same
 * input and sees what is written from then on.
 */
export function attachable(child: Deno.ChildProcess) {
  const stdin = child.stdin.getWriter();
  const listeners = new Set<ReadableStreamDefaultController<Uint8Array>>();
  (async () => {
    for await (const chunk of child.stdout) for (const each of listeners) each.enqueue(chunk);
  })();
  return () => {
    let own: ReadableStreamDefaultController<Uint8Array>;
    return {
      stdin: new WritableStream<Uint8Array>({ write: (chunk) => stdin.write(chunk) }),
      stdout: new ReadableStream<Uint8Array>({
        start: (controller) => void listeners.add(own = controller),
        cancel: () => void listeners.delete(own),
      }),
      write: (text: string) => stdin.write(new TextEncoder().encode(text)),
    };
  };
}

/** The script of @modelcontextprotocol/server-everything. */
export function serverEverything(): Promise<string> {
  return npmServer("@modelcontextprotocol/server-everything", "2026.8.31");
}

/** The script of a server's npm package. */
export async function npmServer(name: string, version: string): Promise<string> {
  const root = await npmPackage(name, version);
  const { bin } = JSON.parse(await Deno.readTextFile(`${root}/package.json`));
  return `${root}/${typeof bin === "string" ? bin : Object.values(bin)[0]}`;
}

/** The directory of an npm package, installed once under `.cache/`. */
export async function npmPackage(name: string, version: string): Promise<string> {
  const directory = new URL(`${name.split("/").at(-1)}-${version}/`, CACHE).pathname;
  const root = `${directory}node_modules/${name}`;
  try {
    await Deno.stat(root);
  } catch {
    // Installed beside its place and moved there whole: test files run at the same time.
    await Deno.mkdir(CACHE, { recursive: true });
    const made = await Deno.makeTempDir({ dir: CACHE.pathname });
    const { success, stderr } = await new Deno.Command("npm", {
      args: [
        "install",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--prefix",
        made,
        `${name}@${version}`,
      ],
      stdout: "null",
      stderr: "piped",
    }).output();
    if (!success) throw new Error(`npm install failed: ${new TextDecoder().decode(stderr)}`);
    await Deno.rename(made, directory).catch(() => Deno.remove(made, { recursive: true }));
  }
  return root;
}

/** A `tools/call` of the waist. */
export function toolCall(
  name: string,
  args: Record<string, unknown> = {},
  { id = 1, meta = {} }: { id?: string | number; meta?: Record<string, unknown> } = {},
) {
  return {
    jsonrpc: "2.0" as const,
    id,
    method: "tools/call",
    params: {
      name,
      arguments: args,
      _meta: { "io.modelcontextprotocol/protocolVersion": "2026-07-28", ...meta },
    },
  };
}

/** The text of a result's first content block. */
export function textOf(response: { result?: Record<string, unknown>; error?: unknown }): string {
  if (!response.result) throw new Error(`An error: ${JSON.stringify(response.error)}`);
  return (response.result.content as { text: string }[])[0].text;
}
