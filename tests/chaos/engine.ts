/**
 * A Docker Engine of the harness's own: its own network namespace (a second dockerd in the first
 * one's flushes its iptables chains), its own disk (in memory, so that it can be filled), and images
 * that are built without a network.
 */
import { Docker } from "../../dtma/docker.ts";
import { Label } from "../../dtma/policy.ts";
import { writeTar } from "../../dtma/tar.ts";
import { BASE } from "../dtma/engine.ts";
import { Daemon } from "./daemon.ts";
import type { History } from "./history.ts";
import { eventually, run, sleep } from "./waiting.ts";

/** What the base image and some servers' images take, with room to work in. */
const DISK_MIB = 640;

const BASE_OF_HARNESS = "mooring/chaos-base";

/** Saves the base image of the machine's engine into a file, for {@link Engine.start} to load. */
export async function saveBase(file: string): Promise<void> {
  const client = unixClient(new Docker().socketPath);
  try {
    const response = await fetch(`http://localhost/images/${BASE}/get`, { client });
    if (!response.ok) throw new Error(`The base image cannot be saved: ${await response.text()}`);
    await Deno.writeFile(file, response.body!);
  } finally {
    client.close();
  }
}

export interface EngineOptions {
  folder: string;
  name: string;
  /** The base image, see {@link saveBase}. */
  archive: string;
  history: History;
  /** Beside Docker's own runtime, as `daemon.json` has them. */
  runtimes?: Record<string, { path: string; runtimeArgs?: string[] }>;
}

export class Engine {
  readonly docker: Docker;
  readonly folder: string;
  readonly name: string;
  readonly #daemon: Daemon;

  private constructor({ folder, name, history, runtimes }: EngineOptions) {
    this.folder = folder;
    this.name = name;
    this.docker = new Docker(this.host);
    const namespace = `/var/run/netns/${name}`;
    this.#daemon = new Daemon({
      name,
      command: [
        "nsenter",
        `--net=${namespace}`,
        "unshare",
        "--uts",
        "dockerd",
        ...(runtimes ? [`--config-file=${folder}/daemon.json`] : []),
        `--data-root=${folder}/data`,
        `--exec-root=${folder}/exec`,
        `--pidfile=${folder}/docker.pid`,
        `--host=${this.host}`,
        "--bridge=none",
        "--live-restore",
        "--log-level=warn",
      ],
      logFile: `${folder}/dockerd.log`,
      history,
    });
  }

  get host(): string {
    return `unix://${this.folder}/docker.sock`;
  }

  get socketPath(): string {
    return `${this.folder}/docker.sock`;
  }

  static async start(options: EngineOptions): Promise<Engine> {
    const { folder, name, archive, runtimes } = options;
    await Deno.mkdir(`${folder}/data`, { recursive: true });
    await run("mount", "-t", "tmpfs", "-o", `size=${DISK_MIB}m`, "tmpfs", `${folder}/data`);
    await run("ip", "netns", "add", name);
    await run("nsenter", `--net=/var/run/netns/${name}`, "ip", "link", "set", "lo", "up");
    if (runtimes) await Deno.writeTextFile(`${folder}/daemon.json`, JSON.stringify({ runtimes }));
    const engine = new Engine(options);
    try {
      await engine.ready();
      await engine.#loadBase(archive);
    } catch (error) {
      await engine[Symbol.asyncDispose]();
      throw error;
    }
    return engine;
  }

  async ready(): Promise<void> {
    await eventually(
      `${this.name} answers`,
      () => this.docker.version().then(() => true, () => false),
      60_000,
    );
  }

  kill(): void {
    this.#daemon.kill();
  }

  release(): void {
    this.#daemon.release();
  }

  pause(): void {
    this.#daemon.pause();
  }

  resume(): void {
    this.#daemon.resume();
  }

  /** Not a byte more can be written where the engine keeps its data. */
  async fillDisk(): Promise<void> {
    await fillDisk(`${this.folder}/data`);
  }

  async freeDisk(): Promise<void> {
    await freeDisk(`${this.folder}/data`);
  }

  /** Containers as they are told to start, by the engine itself; ends with `signal`. */
  async *starts(signal: AbortSignal): AsyncGenerator<StartEvent> {
    const filters = encodeURIComponent(JSON.stringify({ type: ["container"], event: ["start"] }));
    for (let since = Date.now() / 1000; !signal.aborted;) {
      const client = unixClient(this.socketPath);
      try {
        const url = `http://localhost/events?since=${since.toFixed(3)}&filters=${filters}`;
        const response = await fetch(url, { client, signal });
        let rest = "";
        for await (const text of response.body!.pipeThrough(new TextDecoderStream())) {
          const lines = (rest + text).split("\n");
          rest = lines.pop()!;
          for (const line of lines.filter(Boolean)) {
            const { Actor, timeNano } = JSON.parse(line);
            since = timeNano / 1e9;
            yield { id: Actor.ID, labels: Actor.Attributes, atMs: timeNano / 1e6 };
          }
        }
      } catch {
        // The engine is away: what it started is seen in its list when it is back.
        await sleep(200);
      } finally {
        client.close();
      }
    }
  }

  /** Volumes, labelled or not: the engine is the harness's, so each is a server's. */
  async volumes(): Promise<string[]> {
    const client = unixClient(this.socketPath);
    try {
      const { Volumes } = await (await fetch("http://localhost/volumes", { client })).json();
      return (Volumes ?? []).map((volume: { Name: string }) => volume.Name);
    } finally {
      client.close();
    }
  }

  /** What servers wrote down in a volume. */
  async readVolume(name: string): Promise<string> {
    const file = `${this.folder}/data/volumes/${name}/_data/calls`;
    return await Deno.readTextFile(file).catch(() => "");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#daemon.release();
    await this.freeDisk();
    try {
      await this.ready();
      for (const { Id } of await this.docker.listContainers([Label.server])) {
        await this.docker.removeContainer(Id);
      }
    } catch (error) {
      console.error(`${this.name} was left untidy: ${(error as Error).message}`);
    }
    const containerd = await readPid(`${this.folder}/exec/containerd/containerd.pid`);
    await this.#daemon.end();
    this.docker.close();
    if (containerd && await isOurs(containerd, this.folder)) Deno.kill(containerd, "SIGKILL");
    const unmount = `grep " $0/" /proc/mounts | cut -d" " -f2 | sort -r | xargs -r umount -l`;
    await run("sh", "-c", unmount, this.folder);
    await run("ip", "netns", "del", this.name);
  }

  async #loadBase(archive: string): Promise<void> {
    const client = unixClient(this.socketPath);
    try {
      const file = await Deno.open(archive);
      const loaded = await fetch("http://localhost/images/load", {
        method: "POST",
        headers: { "content-type": "application/x-tar" },
        body: file.readable,
        client,
      });
      const said = await loaded.text();
      if (!loaded.ok) throw new Error(`The base image cannot be loaded: ${said}`);
      const query = `repo=${BASE_OF_HARNESS}&tag=latest`;
      await (await fetch(`http://localhost/images/${BASE}/tag?${query}`, {
        method: "POST",
        client,
      })).text();
    } finally {
      client.close();
    }
    const read = (path: string) => Deno.readFile(new URL(path, import.meta.url));
    await this.docker.buildImage(
      writeTar({
        Dockerfile: [
          `FROM ${BASE_OF_HARNESS}`,
          "USER 0",
          "COPY counts.mjs server.mjs /fixtures/",
          "COPY npm.mjs /fixtures-npm.mjs",
          `RUN ["node", "-e", "const npm = '/usr/local/bin/npm'; fs.rmSync(npm, { force: true }); ` +
          `fs.copyFileSync('/fixtures-npm.mjs', npm); fs.chmodSync(npm, 0o755)"]`,
          "USER 65532:65532",
          "",
        ].join("\n"),
        "counts.mjs": await read("../fixtures/servers/counts.mjs"),
        "npm.mjs": await read("npm.mjs"),
        "server.mjs": await read("../fixtures/servers/server.mjs"),
      }),
      { tag: BASE, buildArguments: {}, labels: {}, onLine: () => {} },
    );
  }
}

export interface StartEvent {
  id: string;
  labels: Record<string, string>;
  atMs: number;
}

/** Writes until nothing more fits. */
export async function fillDisk(directory: string): Promise<void> {
  const file = await Deno.open(`${directory}/filler`, { create: true, append: true });
  const block = new Uint8Array(1024 * 1024);
  try {
    for (let size = block.length; size >= 1;) {
      try {
        await file.write(block.subarray(0, size));
      } catch {
        size = Math.floor(size / 16);
      }
    }
  } finally {
    file.close();
  }
}

export async function freeDisk(directory: string): Promise<void> {
  await Deno.remove(`${directory}/filler`).catch(() => {});
}

function unixClient(path: string): Deno.HttpClient {
  return Deno.createHttpClient({ proxy: { transport: "unix", path } });
}

async function readPid(path: string): Promise<number | null> {
  const text = (await Deno.readTextFile(path).catch(() => "")).trim();
  return /^\d+$/.test(text) ? Number(text) : null;
}

async function isOurs(pid: number, folder: string): Promise<boolean> {
  return (await Deno.readTextFile(`/proc/${pid}/cmdline`).catch(() => "")).includes(folder);
}
