/** Mooring as a user starts it: `deno task start`, in a data directory of the test's own. */
import assert from "node:assert/strict";
import { Docker } from "../../dtma/docker.ts";
import { absent, leftovers } from "../dtma/engine.ts";

const ROOT = new URL("../..", import.meta.url).pathname;

/** A first start migrates a new database; on a loaded machine that takes a while. */
const START_TIMEOUT_MS = 300_000;
const STOP_TIMEOUT_MS = 180_000;

/** What the machine's own environment must not decide. */
const UNSET = [
  "BASE_URL",
  "DATABASE_URL",
  "HOST",
  "LOG_FORMAT",
  "MAIL_FROM",
  "OWNER_EMAIL",
  "OWNER_PASSWORD",
  "SECRETS_KEY",
  "SMTP_URL",
];

/** Who an app is started for, by its environment. */
export const OWNER = {
  OWNER_EMAIL: "ann@example.com",
  OWNER_PASSWORD: "a long enough password",
};

export interface StartOptions {
  dataDirectory: string;
  port: number;
  environment?: Record<string, string>;
  args?: string[];
}

export class App {
  readonly #process: Deno.ChildProcess;
  readonly #reading: Promise<unknown>;
  readonly #listeners = new Set<() => void>();
  /** All that it printed, both streams. */
  output = "";
  hasEnded = false;
  readonly dataDirectory: string;
  readonly url: string;

  constructor({ dataDirectory, port, environment = {}, args = [] }: StartOptions) {
    this.dataDirectory = dataDirectory;
    this.url = `http://127.0.0.1:${port}`;
    this.#process = new Deno.Command(Deno.execPath(), {
      args: ["task", "start", ...args],
      cwd: ROOT,
      env: {
        ...Object.fromEntries(UNSET.map((name) => [name, ""])),
        NO_COLOR: "1",
        DATA_DIR: dataDirectory,
        PORT: String(port),
        ...environment,
      },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      // A process group of its own, as a shell makes it: Ctrl-C goes to all of it.
      detached: true,
    }).spawn();
    const read = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>) => {
      for await (const text of stream.pipeThrough(new TextDecoderStream())) {
        this.output += text;
        this.#listeners.forEach((listener) => listener());
      }
    };
    this.#reading = Promise.all([read(this.#process.stdout), read(this.#process.stderr)]);
    this.#process.status.then(() => {
      this.hasEnded = true;
      this.#listeners.forEach((listener) => listener());
    });
  }

  /** Starts it and waits until it says that it is ready. */
  static async start(options: StartOptions): Promise<App> {
    const app = new App(options);
    try {
      await app.says(/Mooring is ready/);
    } catch (error) {
      await app.end();
      throw error;
    }
    return app;
  }

  /** The one-time code that it printed. */
  get code(): string {
    const [, code] = /set it up with the code (\S+)/.exec(this.output) ?? [];
    assert.ok(code, `It printed no code:\n${this.output}`);
    return code;
  }

  /** This toolbox's id, once its DTMA has enrolled. */
  async toolboxId(): Promise<string> {
    const file = `${this.dataDirectory}/dtma/state.json`;
    await eventually("the DTMA enrols", () => Deno.stat(file).then(() => true, () => false));
    return JSON.parse(await Deno.readTextFile(file)).toolboxId;
  }

  /** Waits until the output holds `pattern`. */
  says(pattern: RegExp, timeoutMs = START_TIMEOUT_MS): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (error?: Error) => {
        clearTimeout(timer);
        this.#listeners.delete(look);
        error ? reject(error) : resolve();
      };
      const fail = (why: string) =>
        settle(new Error(`${why} before it said ${pattern}:\n${this.output}`));
      const timer = setTimeout(() => fail(`${timeoutMs} ms passed`), timeoutMs);
      const look = () => {
        if (pattern.test(this.output)) settle();
        else if (this.hasEnded) fail("It ended");
      };
      this.#listeners.add(look);
      look();
    });
  }

  /** Waits for its end by itself. @returns the exit code */
  async exited(): Promise<number> {
    const { code } = await bounded("the app ends", this.#process.status, STOP_TIMEOUT_MS);
    await bounded("its output ends", this.#reading, STOP_TIMEOUT_MS);
    return code;
  }

  /** Ctrl-C, which `deno task` passes on once more, after so long. @returns the exit code */
  async interrupt(passedOnAfterMs = 0): Promise<number> {
    const { pid } = this.#process;
    if (passedOnAfterMs > 0) Deno.kill(pid, "SIGSTOP");
    Deno.kill(-pid, "SIGINT");
    if (passedOnAfterMs > 0) {
      await new Promise((resolve) => setTimeout(resolve, passedOnAfterMs));
      Deno.kill(pid, "SIGCONT");
    }
    return await this.exited();
  }

  /** The app's own process (not the task runner) and its DTMA's. */
  async pids(): Promise<{ app: number; dtma: number }> {
    const [app] = await childrenOf(this.#process.pid);
    let dtma: number | undefined;
    await eventually("the DTMA runs", async () => {
      for (const pid of await childrenOf(app)) {
        const command = await Deno.readTextFile(`/proc/${pid}/cmdline`).catch(() => "");
        if (command.includes("dtma/main.ts")) dtma = pid;
      }
      return dtma !== undefined;
    });
    return { app, dtma: dtma! };
  }

  /** `kill -9` of the app alone, and waits until its DTMA has gone too. */
  async kill(): Promise<void> {
    const { app, dtma } = await this.pids();
    Deno.kill(app, "SIGKILL");
    await this.exited();
    await eventually("the DTMA goes with the app", async () => !(await isAlive(dtma)));
  }

  /** Whatever state it is in: it is gone afterwards. */
  async end(): Promise<void> {
    if (this.hasEnded) return;
    try {
      await this.interrupt();
    } catch {
      Deno.kill(-this.#process.pid, "SIGKILL");
      await this.exited();
    }
  }
}

/** A data directory of the test's own; what its toolbox left on the engine goes with it. */
export async function withDataDirectory(run: (dataDirectory: string) => Promise<void>) {
  const dataDirectory = await Deno.makeTempDir({ prefix: "mooring-e2e-" });
  try {
    await run(dataDirectory);
  } finally {
    const state = await Deno.readTextFile(`${dataDirectory}/dtma/state.json`).catch(() => null);
    if (state && !absent) await removeLeftovers(JSON.parse(state).toolboxId);
    await Deno.remove(dataDirectory, { recursive: true });
  }
}

async function removeLeftovers(toolboxId: string) {
  const docker = new Docker();
  try {
    const left = await leftovers(docker, toolboxId);
    for (const id of left.containers) await docker.removeContainer(id);
    for (const name of left.networks) await docker.removeNetwork(name);
    for (const id of left.images) await docker.removeImage(id);
  } finally {
    docker.close();
  }
}

/** Looks again and again until it holds: for what tells nobody when it happens. */
export async function eventually(
  what: string,
  holds: () => boolean | Promise<boolean>,
  timeoutMs = 300_000,
) {
  const deadline = performance.now() + timeoutMs;
  while (!await holds()) {
    assert.ok(performance.now() < deadline, `Waited ${timeoutMs} ms in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function bounded<T>(what: string, promise: Promise<T>, timeoutMs: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = new Error(`Waited ${timeoutMs} ms in vain: ${what}`);
    timer = setTimeout(() => reject(error), timeoutMs);
  });
  return await Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function childrenOf(pid: number): Promise<number[]> {
  const text = await Deno.readTextFile(`/proc/${pid}/task/${pid}/children`).catch(() => "");
  return text.split(" ").filter(Boolean).map(Number);
}

/** A zombie that nobody has waited for yet is not alive. */
async function isAlive(pid: number): Promise<boolean> {
  const stat = await Deno.readTextFile(`/proc/${pid}/stat`).catch(() => null);
  return stat !== null && !/\) [ZX] /.test(stat);
}

/** A personal access token of {@link OWNER}, as they make it with a browser that runs no script. */
export async function personalToken(url: string): Promise<string> {
  const post = (path: string, form: [string, string][], cookie = "") =>
    fetch(url + path, {
      method: "POST",
      body: new URLSearchParams(form),
      headers: { origin: url, cookie },
      redirect: "manual",
    });
  const signedIn = await post("/sign-in", [
    ["email", OWNER.OWNER_EMAIL],
    ["password", OWNER.OWNER_PASSWORD],
  ]);
  await signedIn.body?.cancel();
  const cookie = signedIn.headers.getSetCookie().map((each) => each.split(";")[0]).join("; ");
  const scopes = ["read", "servers:write", "tools:approve", "tools:call", "agents:write"];
  const made = await post("/account/tokens", [
    ["name", "laptop"],
    ...scopes.map((scope): [string, string] => ["scope", scope]),
  ], cookie);
  return /mpt_[A-Za-z0-9_-]{43}/.exec(await made.text())![0];
}
